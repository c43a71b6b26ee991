"""Print the table. Ratios depend on the machine; none is promised."""

from __future__ import annotations

import argparse
import os
import platform
import time

import diffusers
import torch

from benchmarks.paired import compare
from benchmarks.train_step import CPU, Case, cases
from calotype.runtime import tune_allocator
from calotype.training.throughput import count_flops, measure_matmul_rate


def row(case: Case, budget: float, least: int) -> str:
    gflop = count_flops(case.ours) / 1e9  # the same layout, so theirs are as many
    pair = compare(case.ours, case.theirs, budget, least)
    return (
        f"{case.name:<20} {case.precision:<5} {case.images:>5} {pair.ours * 1e3:>6.0f} ms {pair.theirs * 1e3:>6.0f} ms"
        f" {pair.ratio:>14.2f} {pair.low:>6.2f}-{pair.high:.2f} {pair.rounds:>7}"
        f" {gflop:>7.1f} {gflop / pair.ours:>8.0f} {gflop / pair.theirs:>8.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed against diffusers' networks.")
    parser.add_argument("--quick", action="store_true", help="a smaller batch and fewer rounds, to see that it runs")
    quick = parser.parse_args().quick
    batch, budget, least = (4, 0.5, 1) if quick else (16, 7.0, 3)
    tuned, threads = tune_allocator(), torch.get_num_threads()
    rate = measure_matmul_rate(CPU, 0.5 if quick else 2.0)
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}")
    print(f"{threads} threads on {os.cpu_count()} processors")
    print(f"glibc's allocator keeps large blocks, for both sides: {'yes' if tuned else 'no'}")
    print(f"large matrix products: {rate.bf16 / 1e9:.0f} GFLOP/s in bf16, {rate.fp32 / 1e9:.0f} in fp32")
    print()
    print("theirs / ours above 1: ours is faster. Medians of alternating calls.")
    print(f"{'':<20} {'':<5} {'':>5} {'':>9} {'':>9} {'':>14} {'':>11} {'':>7} {'':>7} {'GFLOP/s':>17}")
    print(
        f"{'':<20} {'':<5} {'batch':>5} {'ours':>9} {'theirs':>9} {'theirs / ours':>14} {'quartiles':>11}"
        f" {'rounds':>7} {'GFLOP':>7} {'ours':>8} {'theirs':>8}"
    )
    wall, own = time.perf_counter(), time.process_time()
    for case in cases(batch):
        print(row(case, budget, least), flush=True)
    busy = (time.process_time() - own) / (time.perf_counter() - wall) / threads
    print()
    print(f"This process had {busy:.0%} of its threads' time; with much less than 100%, others were at work.")


if __name__ == "__main__":
    main()

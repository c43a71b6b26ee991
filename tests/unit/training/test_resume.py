"""Interrupted and resumed equals uninterrupted, to the last bit; nothing is lost to a kill."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_toys
from training_toys import Duel, Regress, fit

from calotype.files import read_json, verify_directory

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
TASKS = {"regress": Regress, "duel": Duel}


def outcome(path: Path, step: int) -> dict[str, object]:
    """Everything that must not depend on interruptions: hashes of all tensors, all numbers, all logged lines."""
    folder = path / "checkpoints" / f"step-{step:08d}"
    hashes = {n: f["sha256"] for n, f in verify_directory(folder)["files"].items() if n.endswith(".safetensors")}
    state = read_json(folder / "state.json")
    del state["position"]["seconds"]
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    clocks = {"images_per_second", "seconds"}
    return {"hashes": hashes, "state": state, "lines": [{k: v for k, v in x.items() if k not in clocks} for x in lines]}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("stops", [[1], [3], [5], [6, 7, 8], [10, 11], [19], [2, 4, 6, 8, 10, 12, 14, 16, 18]])
def test_resumed_equals_uninterrupted(tmp_path, task, stops):
    """Stops at, before and after log lines (every 3), checkpoints (every 5), the critic's first step (10), the end."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(whole, task=TASKS[task]())
    for stop in stops:
        t = training_toys.trainer(parts, task=TASKS[task]())
        t._on_step = lambda step, metrics, stop=stop: step == stop and os.kill(os.getpid(), 15)
        with pytest.raises(SystemExit) as exit_:
            t.fit()
        assert exit_.value.code == 143
        t.run.close()
    assert fit(parts, task=TASKS[task]()).result.resumed_from == stops[-1]
    assert outcome(parts, 20) == outcome(whole, 20)
    assert [line["step"] for line in outcome(whole, 20)["lines"]] == [3, 6, 9, 12, 15, 18, 20]


def test_after_a_crash_the_log_is_cut_back(tmp_path):
    """No signal: the last checkpoint lies before the last line, and the last line is torn."""
    fit(tmp_path / "whole")
    t = training_toys.trainer(tmp_path / "parts")

    def crash(step, metrics):
        if step == 14:
            raise RuntimeError

    t._on_step = crash
    with pytest.raises(RuntimeError):
        t.fit()
    t.run.close()
    with (tmp_path / "parts/metrics.jsonl").open("a") as file:
        file.write('{"step": 14, "fit/lo')
    assert fit(tmp_path / "parts").result.resumed_from == 10
    assert outcome(tmp_path / "parts", 20) == outcome(tmp_path / "whole", 20)


def test_a_finished_run_is_left_alone_and_can_be_prolonged(tmp_path):
    first = fit(tmp_path).result
    again = fit(tmp_path).result
    assert again.resumed_from == 20 and again.finished and again.metrics == first.metrics
    assert fit(tmp_path, steps=30).result.steps == 30


def test_looking_does_not_change_what_is_learned(tmp_path):
    """Previews (which here use the global generator), FLOP counting and saving often leave no trace in the weights."""
    fit(tmp_path / "plain")
    fit(tmp_path / "looked at", preview_every=4, measure=True, save_every=3)
    assert outcome(tmp_path / "plain", 20) == outcome(tmp_path / "looked at", 20)


def test_damaged_checkpoint_falls_back_and_the_end_is_the_same(tmp_path):
    fit(tmp_path / "whole")
    t = training_toys.trainer(tmp_path / "parts")
    t._on_step = lambda step, metrics: step == 17 and os.kill(os.getpid(), 2)
    with pytest.raises(SystemExit) as exit_:
        t.fit()
    assert exit_.value.code == 130
    t.run.close()
    file = tmp_path / "parts/checkpoints/step-00000017/optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert fit(tmp_path / "parts").result.resumed_from == 15
    assert outcome(tmp_path / "parts", 20) == outcome(tmp_path / "whole", 20)
    assert "damaged" in (tmp_path / "parts/events.jsonl").read_text()


def test_another_machine_is_said(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    fit(tmp_path, steps=5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    fit(tmp_path, steps=6)
    text = (tmp_path / "events.jsonl").read_text()
    assert f"threads {threads} -> 99" in text and "not bit for bit" in text


def script(*arguments: object) -> dict[str, object]:
    command = [sys.executable, training_toys.__file__, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


@needs_fork
def test_kill_minus_nine(tmp_path):
    """At least 40 % of the kills hit a checkpoint being written; every committed one is whole; the run goes on."""
    seen = script("kills", tmp_path / "run", 15, 0)
    assert seen["kills"] == 15 and seen["unloadable"] == 0 and seen["steps"] > 0
    assert seen["writing"] >= 6


@needs_fork
def test_signals_at_random_moments(tmp_path):
    steps = 600
    seen = script("signals", tmp_path / "parts", steps, random.Random(3).randrange(1000))
    assert len(seen["codes"]) >= 10 and all(seen["codes"]), seen
    assert seen["late"] < 2.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # As the script does: bit for bit holds for one number of threads.
    try:
        fit(tmp_path / "whole", steps=steps, save_every=40)
    finally:
        torch.set_num_threads(threads)
    assert outcome(tmp_path / "parts", steps) == outcome(tmp_path / "whole", steps)

"""Two processes compute what one does: every case of `rank_cases`, run here and by two ranks, side by side."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest
import rank_cases
import torch
from rank_cases import CASES, numbers
from safetensors.torch import load_file
from torch import Tensor

from calotype import ranks

Results = dict[str, list[dict[str, Tensor]]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """case -> the results of rank 0 and of rank 1."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, rank_cases.__file__, str(folder), str(rank), "2"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return {name: [load_file(folder / f"{name}-{rank}.safetensors") for rank in range(2)] for name in CASES}


@functools.cache
def alone(name: str) -> dict[str, Tensor]:
    """What one process computes: this one."""
    return CASES[name]()


def distance(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|."""
    a, b = a.double(), b.double()
    return float((a - b).norm() / b.norm().clamp_min(1e-30))


def whole(parts: list[dict[str, Tensor]], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The ranks' results as one: parts of a batch in a row, and what concerns all of it must be the same on both."""
    assert parts[0].keys() == parts[1].keys() == like.keys()
    out = {}
    for name, wanted in like.items():
        a, b = (part[name] for part in parts)
        if a.shape == wanted.shape:
            assert torch.equal(a, b), f"the ranks disagree about {name}"
        out[name] = a if a.shape == wanted.shape else torch.cat([a, b])
    return out


def worst(parts: list[dict[str, Tensor]], like: dict[str, Tensor]) -> tuple[float, str]:
    """The largest relative distance between two ranks' results and one's, and where it is."""
    got = whole(parts, like)
    return max((distance(got[name], wanted), name) for name, wanted in like.items())


# --- collectives ------------------------------------------------------------------------------------------------------


def test_one_process_says_nothing_and_changes_nothing() -> None:
    x = numbers(3)
    assert (ranks.size(), ranks.index()) == (1, 0)
    for collective in (ranks.total, ranks.mean, ranks.gathered, ranks.first):
        assert collective(x) is x
    ranks.average([x])
    assert torch.equal(x, numbers(3))


def test_the_mean_of_integers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"floating-point numbers, got torch\.int64; take the total"):
        ranks.mean(torch.arange(3))


def test_collectives(two: Results) -> None:
    x = numbers(2, 5)
    for rank, got in enumerate(two["collectives"]):
        assert (int(got["size"]), int(got["index"])) == (2, rank)
        assert torch.equal(got["untouched"], x[rank])
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            y = x.to(dtype)
            # Half precision is added up in float32 and rounded once.
            total = (y[0].double() + y[1].double()).to(dtype)
            torch.testing.assert_close(got[f"total {dtype}"], total)
            torch.testing.assert_close(got[f"mean {dtype}"], y.double().mean(0).to(dtype))
            assert torch.equal(got[f"gathered {dtype}"], y.flatten()[:, None])
            assert torch.equal(got[f"first {dtype}"], y[0])
        assert got["total integers"].tolist() == [1, 3, 5] and got["total integers"].dtype == torch.int64
        strided = numbers(2, 3, 4)
        torch.testing.assert_close(got["total strided"], strided.sum(0).T)
        assert torch.equal(got["first strided"], strided[0].T)
        assert torch.equal(got["gathered unequal"], torch.ones(3, 2))
        for k, (shape, seed) in enumerate([((3, 2), 0), ((2, 70), 1), ((2,), 2), ((2, 4, 3), 3)]):
            want = numbers(*shape, seed=seed)
            want = (want[:2].float() if k == 1 else want[:2]).mean(0)
            torch.testing.assert_close(got[f"average {k}"], want.T if k == 3 else want)


def test_buckets_keep_order_type_and_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "BUCKET", 10)
    sizes = [(4, torch.float32), (6, torch.float32), (1, torch.float32), (30, torch.float32), (2, torch.float64)]
    buckets = ranks._buckets([torch.zeros(n, dtype=dtype) for n, dtype in sizes])
    assert [[len(x) for x in bucket] for bucket in buckets] == [[4, 6], [1], [30], [2]]


def test_derivatives_are_those_of_the_sum_of_all_losses(two: Results) -> None:
    x = numbers(2, 4, seed=3).requires_grad_()
    w = torch.tensor([1.0, 3.0], dtype=torch.float64)
    loss = (w[:, None] * (x**3).sum(0).square()).sum()
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    (of_mean,) = torch.autograd.grad((w[:, None] * (x**3).mean(0).square()).sum(), x)
    for rank, got in enumerate(two["derivatives"]):
        torch.testing.assert_close(got["first"], first[rank], rtol=1e-12, atol=0)
        torch.testing.assert_close(got["second"], second[rank], rtol=1e-12, atol=0)
        torch.testing.assert_close(got["of mean"], of_mean[rank], rtol=1e-12, atol=0)


# --- batch normalisation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tolerance"), [("batch_norm", 1e-9), ("batch_norm_unequal", 1e-12), ("batch_norm_single", 1e-5)]
)
def test_batch_normalisation_is_that_of_the_whole_batch(two: Results, name: str, tolerance: float) -> None:
    """Output, first and second derivatives and running statistics; torch's own on the whole batch is the measure."""
    error, where = worst(two[name], alone(name))
    assert error < tolerance, where


def test_statistics_of_each_rank_would_be_seen(two: Results) -> None:
    parts, like = two["batch_norm_of_each"], alone("batch_norm_of_each")
    got = torch.cat([part["0 y"] for part in parts])
    assert distance(got, like["0 y"]) > 0.05


def test_batch_normalisation_keeps_half_precision(two: Results) -> None:
    like = alone("batch_norm_half")["y"]
    got = torch.cat([part["y"] for part in two["batch_norm_half"]])
    assert got.dtype == like.dtype == torch.bfloat16
    torch.testing.assert_close(got, like, rtol=2**-7, atol=2**-9)  # one unit in the last place of bfloat16


# --- statistics of latents --------------------------------------------------------------------------------------------


def test_statistics_of_latents_are_those_of_all_pictures(two: Results) -> None:
    error, where = worst(two["latent_statistics"], alone("latent_statistics"))
    assert error < 1e-12, where


# --- the first stage --------------------------------------------------------------------------------------------------

SAME = [
    "first_stage_gaussian",
    "first_stage_finite_scalar",
    "first_stage_codes_by_gradient",
    "first_stage_codes_by_means",
    "first_stage_revival_by_gradient",
    "first_stage_revival_by_means",
    "first_stage_few_vectors",
    "first_stage_r1",
    "first_stage_lecam",
]


@pytest.mark.parametrize("name", SAME)
def test_two_ranks_train_as_one(two: Results, name: str) -> None:
    """Gradients, norms and the adaptive weight of three steps, and everything that they leave behind, in float32."""
    error, where = worst(two[name], alone(name))
    assert error < 1e-4, where
    for phase in ("autoencoder", "discriminator"):
        got, wanted = (parts[f"0 {phase} gradient"] for parts in (two[name][0], alone(name)))
        assert distance(got, wanted) < 1e-5


@pytest.mark.parametrize("name", ["first_stage_norms_of_each", "first_stage_weight_of_each"])
def test_what_ranks_did_not_agree_on_would_be_seen(two: Results, name: str) -> None:
    got, wanted = (parts["0 autoencoder gradient"] for parts in (two[name][0], alone(name)))
    assert distance(got, wanted) > 1e-3


def test_gradients_are_those_of_distributed_data_parallel(two: Results) -> None:
    one = alone("reconstruction_alone")
    for rank in range(2):
        assert distance(two["reconstruction_alone"][rank]["ours"], two["reconstruction_alone"][rank]["theirs"]) < 1e-6
        assert distance(two["reconstruction_alone"][rank]["theirs"], one["ours"]) < 1e-5

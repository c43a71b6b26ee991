"""Distances against their definition, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from calotype.condition import Condition
from calotype.diffusion import (
    Cosine,
    Denoiser,
    Epsilon,
    MeanSquare,
    MultiScale,
    Objective,
    Schedule,
    UniformEpsilon,
    Velocity,
)
from calotype.errors import UserError

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def pooled(d: Tensor, k: int) -> Tensor:
    """Means over k x k squares, square by square."""
    out = torch.empty(*d.shape[:2], d.shape[2] // k, d.shape[3] // k, dtype=d.dtype)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = sum(d[:, :, i * k + a, j * k + b] for a in range(k) for b in range(k)) / k**2
    return out


@pytest.mark.parametrize(
    ("size", "smallest", "scales"),
    [
        ((16, 16), 4, (4, 8, 16)),
        ((16, 16), 16, (16,)),
        ((8, 24), 2, (2, 4, 8)),
        ((12, 6), 3, (3, 6)),
        ((4, 4), 1, (1, 2, 4)),
    ],
)
def test_multi_scale_is_its_definition(size: tuple[int, int], smallest: int, scales: tuple[int, ...]) -> None:
    d = draw(3, 2, *size)
    side = min(size)
    sums = sum(pooled(d, side // s).square().mean((1, 2, 3)) / s for s in scales)
    assert torch.allclose(MultiScale(smallest, normalised=False)(d), sums, rtol=1e-12)
    assert torch.allclose(MultiScale(smallest)(d), sums / sum(1 / s for s in scales), rtol=1e-12)


@pytest.mark.parametrize("side", [32, 64, 128, 256, 512, 1024])
def test_the_papers_scales_and_weights(side: int) -> None:
    scales = [s for s in (32, 64, 128, 256, 512, 1024) if s <= side]
    assert MultiScale(normalised=False).weights(side, side) == {s: 1 / s for s in scales}
    weights = MultiScale().weights(side, side)
    assert sum(weights.values()) == pytest.approx(1) and [*weights] == scales
    assert all(weights[32] / weights[s] == pytest.approx(s / 32) for s in scales)


def test_one_scale_is_the_plain_loss() -> None:
    d = draw(3, 2, 32, 32)
    assert torch.equal(MultiScale()(d), MeanSquare()(d))
    assert torch.allclose(MultiScale(normalised=False)(d), d.square().mean((1, 2, 3)) / 32)


def test_white_noise_counts_by_its_share_at_every_scale() -> None:
    """E mean (D_s d)^2 = (s / side)^2, so the paper's sum is sum_s s / side^2."""
    d = torch.randn(400, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert MultiScale(8, normalised=False)(d).mean().item() == pytest.approx((8 + 16 + 32) / 32**2, rel=0.01)


def test_a_shift_of_all_pixels_costs_the_same_and_detail_costs_less() -> None:
    d = torch.full((1, 1, 16, 16), 0.5, dtype=F64)
    assert MultiScale(4)(d).item() == pytest.approx(0.25)
    chequered = d.clone()
    chequered[..., ::2, 1::2] = chequered[..., 1::2, ::2] = -0.5
    assert MultiScale(4)(chequered).item() == pytest.approx(0.25 * (1 / 16) / (1 / 4 + 1 / 8 + 1 / 16))


def test_gradients() -> None:
    d = draw(2, 1, 8, 4).requires_grad_()
    assert torch.autograd.gradcheck(MultiScale(1), d)
    # of mean (D d)^2: every pixel of a square gets its mean, times two, by the number of all pixels
    (g,) = torch.autograd.grad(MultiScale(2, normalised=False)(d)[0], d)
    means = pooled(d, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(g[0], (2 * means / 32 / 2 + 2 * d / 32 / 4)[0]) and not g[1].any()


@pytest.mark.parametrize("smallest", [0, -32])
def test_no_scale_below_one(smallest: int) -> None:
    with pytest.raises(UserError, match="smallest scale of at least 1"):
        MultiScale(smallest)


@pytest.mark.parametrize(
    ("size", "smallest", "advice"),
    [
        ((48, 48), 32, 24),
        ((8, 8), 32, 8),
        ((96, 96), 32, 24),
        ((64, 65), 32, 64),
        ((65, 64), 32, 64),
        ((33, 33), 32, 33),
        ((40, 80), 16, 10),
    ],
)
def test_sizes_that_do_not_do(size: tuple[int, int], smallest: int, advice: int) -> None:
    distance = MultiScale(smallest)
    for refuse in (lambda: distance.check(*size), lambda: distance(torch.zeros(1, 1, *size))):
        with pytest.raises(UserError, match=rf"{size[0]} x {size[1]} does not do.*distance\.smallest={advice}$"):
            refuse()
    replace(distance, smallest=advice).check(*size)


# --------------------------------------------------------------------------------------------------- in the objective


T = torch.tensor([1e-4, 0.02, 0.5, 0.9, 1.0], dtype=F64)


def losses(parameterization: object, answer: Tensor, dtype: torch.dtype = F64) -> Tensor:
    """Of a network that says eps = answer, in words of its own."""
    schedule = Schedule(Cosine())
    x_0, eps = draw(5, 2, 8, 8, seed=1).to(dtype), draw(5, 2, 8, 8, seed=2).to(dtype)
    alpha, sigma = (v.view(-1, 1, 1, 1).to(dtype) for v in schedule.at(T))
    said = {
        Epsilon: lambda x: answer,
        # v = alpha eps - sigma x_0 with x_0 = (x_t - sigma eps) / alpha
        Velocity: lambda x: (answer - sigma * x) / alpha,
    }[type(parameterization)]
    network = Denoiser(lambda x, time, cond: said(x).to(dtype), schedule, parameterization)  # type: ignore[arg-type]
    loss, _ = Objective(UniformEpsilon(), distance=MultiScale(2))(network, x_0, Condition(), T, eps)
    return loss


def test_a_velocity_network_is_trained_on_its_eps() -> None:
    """The distance of eps_hat - eps, brute force, whoever says it."""
    answer, eps = draw(5, 2, 8, 8, seed=3), draw(5, 2, 8, 8, seed=2)
    weights = {8: 1 / 8, 4: 1 / 4, 2: 1 / 2}
    expected = sum(w * pooled(answer - eps, 8 // s).square().mean((1, 2, 3)) for s, w in weights.items()) / 0.875
    assert torch.allclose(losses(Epsilon(), answer), expected, rtol=1e-12)
    # at t = 1 alpha is 5e-4, and v divides by it in this test (never in the objective)
    assert torch.allclose(losses(Velocity(), answer), expected, rtol=1e-9)


def test_the_conversion_amplifies_nothing() -> None:
    """A velocity off by one is an eps off by alpha: bounded at both ends, also in float32."""
    schedule = Schedule(Cosine())
    x_0, eps = draw(5, 2, 8, 8, seed=1).float(), draw(5, 2, 8, 8, seed=2).float()
    alpha, sigma = (v.view(-1, 1, 1, 1).float() for v in schedule.at(T))
    denoiser = Denoiser(lambda x, time, cond: alpha * eps - sigma * x_0 + 1, schedule, Velocity())
    loss, _ = Objective(UniformEpsilon(), distance=MultiScale(2))(denoiser, x_0, Condition(), T, eps)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, alpha.flatten().square(), rtol=1e-4)

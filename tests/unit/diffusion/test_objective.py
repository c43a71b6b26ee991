"""The training loss in closed form."""

from __future__ import annotations

import pytest
import torch

from calotype.condition import Condition
from calotype.diffusion import (
    Cosine,
    Denoiser,
    Epsilon,
    GaussianMixture,
    Objective,
    Schedule,
    StratifiedTimes,
    UniformEpsilon,
    UniformTimes,
    UniformVelocity,
    Velocity,
)

F64 = torch.float64
SCHEDULE = Schedule(Cosine())


def test_the_simple_loss_is_the_mean_squared_error_of_eps():
    x_0, eps, answer = torch.randn(3, 4, 2, 3, 3, dtype=F64)
    t = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=F64)
    denoiser = Denoiser(lambda x, time, cond: answer, SCHEDULE, Epsilon())
    loss, _ = Objective(UniformEpsilon())(denoiser, x_0, Condition(), t, eps)
    assert torch.allclose(loss, (answer - eps).square().mean((1, 2, 3)))


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_the_loss_of_the_exact_denoiser_is_the_posterior_variance(t):
    """E|x_0 - E[x_0 | x_t]|^2 = s^2 sigma^2 / (alpha^2 s^2 + sigma^2) for N(0, s^2), times SNR for the error of eps."""
    s, n = 0.6, 40_000
    g = torch.Generator().manual_seed(1)
    time = torch.full((n,), t, dtype=F64)
    alpha, sigma = SCHEDULE.at(time[0])
    exact = GaussianMixture.gaussian(torch.zeros(1, 1, 1, dtype=F64), s).denoise(SCHEDULE)
    denoiser = Denoiser(
        lambda x, _, cond: (alpha * x - (alpha**2 + sigma**2) * exact(x, time)) / sigma, SCHEDULE, Velocity()
    )
    x_0, eps = s * torch.randn(n, 1, 1, 1, generator=g, dtype=F64), torch.randn(n, 1, 1, 1, generator=g, dtype=F64)
    loss, metrics = Objective(UniformEpsilon())(denoiser, x_0, Condition(), time, eps)
    variance = s**2 * sigma**2 / (alpha**2 * s**2 + sigma**2)
    assert loss.mean().item() == pytest.approx((variance * alpha**2 / sigma**2).item(), rel=0.03)
    assert metrics["error_x0"].item() == pytest.approx(variance.item(), rel=0.03)


def test_gradients_reach_the_network_and_the_metrics_carry_none():
    network = torch.nn.Conv2d(1, 1, 1)
    denoiser = Denoiser(lambda x, time, cond: network(x), SCHEDULE, Velocity())
    x_0, eps = torch.randn(2, 3, 1, 4, 4)
    loss, metrics = Objective(UniformVelocity())(denoiser, x_0, Condition(), torch.tensor([0.1, 0.5, 0.9]), eps)
    loss.mean().backward()
    assert network.weight.grad is not None and not metrics["error_x0"].requires_grad


def test_loss_is_float32_for_half_precision_latents():
    x_0, eps = torch.randn(2, 3, 1, 4, 4).bfloat16()
    denoiser = Denoiser(lambda x, time, cond: x, SCHEDULE, Velocity())
    loss, _ = Objective(UniformVelocity())(denoiser, x_0, Condition(), torch.tensor([1e-6, 0.5, 1.0]), eps)
    assert loss.dtype == torch.float32 and loss.isfinite().all()


def test_stratified_times_make_the_batch_loss_less_noisy():
    network = torch.tanh
    denoiser = Denoiser(lambda x, time, cond: network(x), SCHEDULE, Velocity())
    g = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 16, 1, 8, 8, generator=g)
    spread = {}
    for sampler in (UniformTimes(), StratifiedTimes()):
        objective = Objective(UniformVelocity(), sampler)
        means = []
        for _ in range(100):
            t = objective.time_sampler(torch.rand(16, generator=g))
            means.append(objective(denoiser, x_0, Condition(), t, eps)[0].mean())
        spread[sampler] = torch.stack(means).std().item()
    assert spread[StratifiedTimes()] < 0.5 * spread[UniformTimes()]

"""The ways of splitting a noise level."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import (
    EDM,
    Cosine,
    Denoiser,
    LinearPath,
    LogLinear,
    Schedule,
    VarianceExploding,
    VariancePreserving,
    ZeroTerminal,
)
from calotype.errors import UserError

F64 = torch.float64
logsnr = torch.linspace(-20, 20, 41, dtype=F64)


def test_what_each_keeps():
    alpha, sigma = VariancePreserving()(logsnr)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(logsnr), rtol=0, atol=1e-15)
    alpha, sigma = LinearPath()(logsnr)
    assert torch.allclose(alpha + sigma, torch.ones_like(logsnr), rtol=0, atol=1e-15)
    alpha, sigma = VarianceExploding()(logsnr)
    assert torch.equal(alpha, torch.ones_like(logsnr)) and torch.allclose(sigma**2, (-logsnr).exp(), rtol=1e-14)


def test_infinite_logsnr():
    ends = torch.tensor([math.inf, -math.inf])
    for path in (VariancePreserving(), LinearPath()):
        alpha, sigma = path(ends)
        assert alpha.tolist() == [1, 0] and sigma.tolist() == [0, 1]


def test_sigma_of_the_ve_sde_is_a_geometric_progression():
    low, high = 0.01, 50.0
    schedule = Schedule(LogLinear(-2 * math.log(high), -2 * math.log(low)), VarianceExploding())
    t = torch.linspace(0, 1, 11, dtype=F64)
    assert torch.allclose(schedule.at(t)[1], low * (high / low) ** t, rtol=1e-12)


def test_a_ve_denoiser_sees_inputs_of_unit_variance():
    seen = []

    def network(x, time, cond):
        seen.append(x)
        return x

    denoiser = Denoiser(network, Schedule(LogLinear(), VarianceExploding()), EDM())
    g = torch.Generator().manual_seed(0)
    for t in (0.05, 0.5, 1.0):
        x_0, eps = torch.randn(2, 64, 3, 8, 8, generator=g)
        time = torch.full((64,), t)
        denoiser(denoiser.schedule.perturb(x_0, eps, time), time, None)
        assert seen[-1].std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("curve", [Cosine(None, None), ZeroTerminal()], ids=str)
def test_infinite_noise_is_refused(curve):
    with pytest.raises(UserError, match=r"infinitely much noise at t = 1.*Clamped"):
        Schedule(curve, VarianceExploding())

"""The table of loss weights: multipliers on the errors of eps, x_0 and v, as functions of SNR."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import X0, Epsilon, MinSNR, UniformEpsilon, UniformVelocity, Velocity
from calotype.errors import UserError

F64 = torch.float64
logsnr = torch.linspace(-10, 10, 21, dtype=F64)
alpha, sigma = logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt()
snr = logsnr.exp()
one = torch.ones_like(snr)

TABLE = {
    (UniformEpsilon(), Epsilon()): one,
    (UniformEpsilon(), X0()): snr,
    (UniformEpsilon(), Velocity()): snr / (snr + 1),
    (UniformVelocity(), Epsilon()): (snr + 1) / snr,
    (UniformVelocity(), X0()): snr + 1,
    (UniformVelocity(), Velocity()): one,
    (MinSNR(5.0), Epsilon()): snr.clamp(max=5) / snr,
    (MinSNR(5.0), X0()): snr.clamp(max=5),
    (MinSNR(5.0), Velocity()): snr.clamp(max=5) / (snr + 1),
}


@pytest.mark.parametrize("pair", [*TABLE], ids=str)
def test_multiplier(pair):
    weighting, p = pair
    m = weighting(alpha, sigma, p.coefficients(alpha, sigma).c_out)
    assert torch.allclose(m, TABLE[pair], rtol=1e-12)


@pytest.mark.parametrize("pair", [*TABLE], ids=str)
def test_the_expected_weighted_error_is_the_stated_one(pair):
    """m |d_F|^2 is the stated multiple of |d_eps|^2 for an error d_F of any prediction."""
    weighting, p = pair
    x_0, eps, d = torch.randn(3, 50, 21, dtype=F64, generator=torch.Generator().manual_seed(0))
    c_skip, c_out, _ = p.coefficients(alpha, sigma)
    x_t = alpha * x_0 + sigma * eps
    wrong = c_skip * x_t + c_out * (p.target(x_0, eps, alpha, sigma) + d)
    d_eps = (x_t - alpha * wrong) / sigma - eps
    on_eps = TABLE[(weighting, Epsilon())]
    m = weighting(alpha, sigma, c_out)
    assert torch.allclose((m * d**2).mean(0), (on_eps * d_eps**2).mean(0), rtol=1e-6)


def test_min_snr_is_exactly_zero_without_signal_and_finite():
    no, full = torch.zeros(1), torch.ones(1)
    assert MinSNR()(no, full, Velocity().coefficients(no, full).c_out) == 0


def test_velocity_weighting_keeps_the_terminal_step():
    no, full = torch.zeros(1), torch.ones(1)
    assert UniformVelocity()(no, full, Velocity().coefficients(no, full).c_out) == 1


def test_gamma_must_be_positive():
    with pytest.raises(UserError, match="gamma > 0"):
        MinSNR(0.0)

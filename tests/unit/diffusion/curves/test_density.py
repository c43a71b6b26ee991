"""Curves that are densities: 1 / |d logsnr / dt| is the density they are named after."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import AbarLinear, Flow, Laplace, LinearPath, LogLinear, LogNormal, Schedule
from calotype.errors import UserError

F64 = torch.float64
t = torch.linspace(0.005, 0.995, 100, dtype=F64)


def normal(x, mean, std):
    return (-(((x - mean) / std) ** 2) / 2).exp() / (std * math.sqrt(2 * math.pi))


DENSITIES = {
    LogLinear(-4.0, 6.0): lambda x: torch.full_like(x, 0.1),
    Flow(): lambda x: 1 / (8 * (x / 4).cosh() ** 2),
    AbarLinear(): lambda x: 1 / (4 * (x / 2).cosh() ** 2),
    Laplace(): lambda x: (-x.abs() / 0.5).exp(),
    Laplace(-1.0, 0.75): lambda x: (-(x + 1).abs() / 0.75).exp() / 1.5,
    # log sigma ~ N(-1.2, 1.2^2), logsnr = -2 log sigma
    LogNormal(sigma_data=1.0): lambda x: normal(x, 2.4, 2.4),
    # for data of unit variance sigma is 1 / 0.5 times as large
    LogNormal(): lambda x: normal(x, 2.4 + 2 * math.log(0.5), 2.4),
}


@pytest.mark.parametrize("curve", DENSITIES, ids=str)
def test_density_of_log_snr_under_uniform_times(curve):
    assert torch.allclose(-1 / curve.slope(t), DENSITIES[curve](curve.logsnr(t)), rtol=1e-9)


@pytest.mark.parametrize("curve", DENSITIES, ids=str)
def test_time_is_the_share_of_levels_above(curve):
    """t = 1 - CDF(logsnr), the CDF by the trapezoidal rule."""
    x = torch.linspace(*curve.logsnr(torch.tensor([0.9, 0.1], dtype=F64)), 20_001, dtype=F64)
    assert torch.trapezoid(DENSITIES[curve](x), x).item() == pytest.approx(0.8, abs=1e-6)


def test_flow_is_a_straight_line():
    t = torch.linspace(0, 1, 101, dtype=F64)
    alpha, sigma = Schedule(Flow(), LinearPath()).at(t)
    assert torch.allclose(alpha, 1 - t, atol=1e-15) and torch.allclose(sigma, t, atol=1e-15)
    assert (alpha[0], sigma[0], alpha[-1], sigma[-1]) == (1, 0, 0, 1), "exactly"


def test_laplace_as_the_paper_prints_it():
    d = t - 0.5
    d = d[d != 0]
    expected = 0.3 - 0.5 * (-d).sign() * (1 - 2 * d.abs()).log()
    assert torch.allclose(Laplace(0.3, 0.5).logsnr(0.5 + d), expected, atol=1e-12)


def test_wrong_fields_are_explained():
    for curve, fields, match in (
        (LogLinear, (3.0, 3.0), "logsnr_min < logsnr_max"),
        (LogLinear, (-math.inf, 3.0), "finite"),
        (Laplace, (0.0, 0.0), "b > 0"),
        (Laplace, (math.nan, 0.5), "finite mu"),
        (LogNormal, (-1.2, 0.0), "std > 0"),
        (LogNormal, (-1.2, 1.2, -1.0), "sigma_data > 0"),
    ):
        with pytest.raises(UserError, match=match):
            curve(*fields)

"""The numbers of published noise schedules."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import Cosine, Linear, ScaledLinear, Schedule
from calotype.errors import UserError

F64 = torch.float64

# abar at indices 0, 249, 499, 749, 999; sigma / alpha and log-SNR at 999
TABLES = {
    ScaledLinear(): (0.99915, 0.675432, 0.277670, 0.0566235, 0.00466010, 14.6146, -5.364),
    ScaledLinear(0.0015, 0.0195): (0.9985, 0.510514, 0.115844, 0.00844483, 1.42304e-4, 83.82, -8.857),
    ScaledLinear(0.0015, 0.0155): (0.9985, 0.537423, 0.151077, 0.0175814, 6.68665e-4, 38.66, -7.310),
    ScaledLinear(0.0015, 0.0205): (0.9985, 0.504253, 0.108576, 0.00704839, 9.69109e-5, 101.6, -9.242),
    ScaledLinear(0.0015, 0.015): (0.9985, 0.541028, 0.156307, 0.0192954, 8.12518e-4, 35.07, -7.115),
    Linear(): (0.9999, 0.524085, 0.0785872, 0.00335055, 4.03583e-5, 157.4, -10.118),
}


@pytest.mark.parametrize("curve", TABLES, ids=str)
def test_table_values(curve):
    *abar, sigma_max, logsnr = TABLES[curve]
    t = (torch.tensor([0, 249, 499, 749, 999], dtype=F64) + 1) / 1000
    alpha, sigma = Schedule(curve).at(t)
    assert (alpha**2).tolist() == pytest.approx(abar, rel=5e-6)
    assert (sigma / alpha)[-1].item() == pytest.approx(sigma_max, rel=5e-4)
    assert Schedule(curve).logsnr(t)[-1].item() == pytest.approx(logsnr, abs=6e-4)


def test_stable_diffusions_clean_end():
    first = torch.tensor(1e-3, dtype=F64)
    alpha, sigma = Schedule(ScaledLinear()).at(first)
    assert (sigma / alpha).item() == pytest.approx(0.0291672, rel=1e-5)
    assert Schedule(ScaledLinear()).logsnr(first).item() == pytest.approx(7.0694, abs=1e-4)


def test_every_entry_of_a_table_is_the_cumulative_product_of_its_betas():
    curve = ScaledLinear(0.001, 0.02, steps=50)
    alpha, _ = Schedule(curve).at((torch.arange(50, dtype=F64) + 1) / 50)
    assert torch.allclose(alpha**2, (1 - curve.betas()).cumprod(0), rtol=1e-13)


def test_a_table_starts_exactly_clean():
    alpha, sigma = Schedule(ScaledLinear()).at(torch.tensor(0.0))
    assert alpha == 1 and sigma == 0


def test_between_entries_beta_is_constant():
    """abar(t + d) / abar(t) depends on d alone inside an interval."""
    t = 0.5 + torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=F64) / 1000
    alpha, _ = Schedule(ScaledLinear()).at(t)
    ratios = (alpha[1:] / alpha[:-1]) ** 2
    assert torch.allclose(ratios, ratios[:1].expand(4), rtol=1e-12)


def test_open_cosine_is_cosine_and_sine():
    t = torch.linspace(0, 1, 101, dtype=F64)
    alpha, sigma = Schedule(Cosine(None, None)).at(t)
    assert torch.allclose(alpha, (math.pi / 2 * t).cos(), atol=1e-15)
    assert torch.allclose(sigma, (math.pi / 2 * t).sin(), atol=1e-15)
    assert (alpha[0], sigma[0]) == (1, 0) and (alpha[-1], sigma[-1]) == (0, 1), "exactly"


def test_truncated_cosine_ends_where_it_is_told():
    ends = Schedule(Cosine(-12.0, 9.0)).logsnr(torch.tensor([1.0, 0.0], dtype=F64))
    assert ends.tolist() == pytest.approx([-12, 9], abs=1e-9)
    half_open = Schedule(Cosine(None, 9.0)).logsnr(torch.tensor([1.0, 0.0], dtype=F64))
    assert half_open[0] == -math.inf and half_open[1].item() == pytest.approx(9)


def test_wrong_fields_are_explained():
    with pytest.raises(UserError, match="logsnr_min < logsnr_max"):
        Cosine(5.0, -5.0)
    with pytest.raises(UserError, match="0 < beta_start"):
        Linear(0.0, 0.02)
    with pytest.raises(UserError, match="2 <= steps"):
        ScaledLinear(steps=1)

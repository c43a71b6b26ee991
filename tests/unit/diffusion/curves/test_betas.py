"""The numbers of published tables."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import (
    VPSDE,
    Betas,
    BetaSigmoid,
    CosineTable,
    Linear,
    ScaledLinear,
    Schedule,
    Sqrt,
)
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
    CosineTable(): (0.999959, 0.847012, 0.493844, 0.144272, 2.42877e-9, 20291, -19.836),
    BetaSigmoid(): (0.999851, 0.903745, 0.301931, 0.0057322, 3.96818e-5, 158.7, -10.135),
}


@pytest.mark.parametrize("curve", TABLES, ids=str)
def test_table_values(curve):
    *abar, sigma_max, logsnr = TABLES[curve]
    t = (torch.tensor([0, 249, 499, 749, 999], dtype=F64) + 1) / 1000
    alpha, sigma = Schedule(curve).at(t)
    assert (alpha**2).tolist() == pytest.approx(abar, rel=1e-5)
    assert (sigma / alpha)[-1].item() == pytest.approx(sigma_max, rel=5e-4)
    assert Schedule(curve).logsnr(t)[-1].item() == pytest.approx(logsnr, abs=6e-4)


def test_stable_diffusions_clean_end():
    first = torch.tensor(1e-3, dtype=F64)
    alpha, sigma = Schedule(ScaledLinear()).at(first)
    assert (sigma / alpha).item() == pytest.approx(0.0291672, rel=1e-5)
    assert Schedule(ScaledLinear()).logsnr(first).item() == pytest.approx(7.0694, abs=1e-4)


@pytest.mark.parametrize("curve", [ScaledLinear(0.001, 0.02, steps=50), Sqrt(steps=50), Betas((0.3, 0.01, 0.5))])
def test_every_entry_of_a_table_is_the_cumulative_product_of_its_betas(curve):
    alpha, _ = Schedule(curve).at((torch.arange(curve.entries, dtype=F64) + 1) / curve.entries)
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


def test_the_slope_of_a_table_is_that_of_log_abar_over_one_minus_abar():
    curve = Linear(steps=10)
    t = torch.tensor([0.03, 0.55, 0.97], dtype=F64)
    per_time = torch.log1p(-curve.betas())[(t * 10).long()] * 10
    sigma2 = -torch.expm1(curve.log_abar(t))
    assert torch.allclose(curve.slope(t), per_time / sigma2, rtol=1e-12)


def test_sqrt_betas_squared_are_linear():
    betas = Sqrt(0.01, 0.04, steps=4).betas()
    assert torch.allclose(betas**2, torch.tensor([0.01, 0.02, 0.03, 0.04], dtype=F64))


def test_beta_sigmoid_is_symmetric_about_the_middle_of_its_ends():
    betas = BetaSigmoid(0.1, 0.3, steps=7).betas()
    assert torch.allclose(betas + betas.flip(0), torch.full((7,), 0.4, dtype=F64))
    assert betas[0].item() == pytest.approx(0.1 + 0.2 / (1 + math.exp(6)))


def test_cosine_table_is_the_squared_cosine_until_beta_is_capped():
    curve = CosineTable(steps=200)
    t = (torch.arange(199, dtype=F64) + 1) / 200
    angle = (torch.cat([torch.zeros(1), t]) + 0.008) / 1.008 * math.pi / 2
    abar = angle.cos() ** 2
    assert torch.allclose(curve.log_abar(t).exp(), abar[1:] / abar[0], rtol=1e-12)
    assert curve.betas()[-1] == 0.999


def test_linear_becomes_the_vp_sde_for_many_steps():
    steps = 100_000
    table = Linear(0.1 / steps, 20 / steps, steps)
    t = torch.tensor([0.01, 0.3, 0.7, 1.0], dtype=F64)
    assert torch.allclose(table.logsnr(t), VPSDE().logsnr(t), atol=2e-3)


def test_wrong_fields_are_explained():
    for table in (Linear, ScaledLinear, Sqrt, BetaSigmoid):
        with pytest.raises(UserError, match=f"{table.__name__} needs 0 < beta_start"):
            table(0.0, 0.02)
        with pytest.raises(UserError, match="2 <= steps"):
            table(steps=1)
    with pytest.raises(UserError, match="offset > 0"):
        CosineTable(offset=0.0)
    with pytest.raises(UserError, match=r"got 1\.0 at index 2; .* ZeroTerminal"):
        Betas((0.1, 0.2, 1.0))
    with pytest.raises(UserError, match="2 to 100000 betas, got 1"):
        Betas((0.1,))

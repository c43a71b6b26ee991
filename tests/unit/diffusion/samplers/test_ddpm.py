"""The ancestral posterior at any interval."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import DDPM, Cosine, GaussianMixture, Linear, Schedule
from calotype.errors import UserError

F64 = torch.float64


def one_step(sampler: DDPM, schedule: Schedule, t: float, s: float, x_0: float, x: float) -> tuple[float, float]:
    """Mean and standard deviation of one step from x, the prediction being x_0."""
    times = torch.tensor([t, s], dtype=F64)
    start = torch.tensor([[x]], dtype=F64)
    (mean,) = sampler(lambda x, t: torch.full_like(x, x_0), start, times, schedule, torch.zeros_like)
    (moved,) = sampler(lambda x, t: torch.full_like(x, x_0), start, times, schedule, torch.ones_like)
    return mean.x.item(), (moved.x - mean.x).item()


@pytest.mark.parametrize("interval", [(0.9, 0.2), (0.5, 0.499), (0.03, 0.02)])
def test_is_bayes_rule(interval):
    """q(x_s | x_t, x_0) by multiplying two Gaussians in x_s: precisions 1 / sigma_s^2 and r^2 / b add."""
    schedule = Schedule(Cosine())
    (a_t, s_t), (a_s, s_s) = (schedule.at(torch.tensor(t, dtype=F64)) for t in interval)
    r = a_t / a_s
    b = s_t**2 - r**2 * s_s**2
    precision = 1 / s_s**2 + r**2 / b
    mean, std = one_step(DDPM(), schedule, *interval, x_0=0.7, x=-0.4)
    assert mean == pytest.approx(((a_s * 0.7 / s_s**2 + r * -0.4 / b) / precision).item(), rel=1e-9)
    assert std == pytest.approx((precision**-0.5).item(), rel=1e-9)


@pytest.mark.parametrize("i", [1, 500, 999])
def test_between_table_entries_it_is_ddpm(i):
    schedule = Schedule(Linear())
    betas = Linear().betas()
    abar = (1 - betas).cumprod(0)
    small = betas[i] * (1 - abar[i - 1]) / (1 - abar[i])
    mean = abar[i - 1].sqrt() * betas[i] / (1 - abar[i]) * 0.7
    mean = mean + (1 - betas[i]).sqrt() * (1 - abar[i - 1]) / (1 - abar[i]) * -0.4
    for spread, variance in ((0.0, small), (1.0, betas[i]), (0.5, (small * betas[i]).sqrt())):
        got = one_step(DDPM(spread), schedule, (i + 1) / 1000, i / 1000, x_0=0.7, x=-0.4)
        assert got == pytest.approx((mean.item(), variance.sqrt().item()), rel=1e-8)


def test_fixed_large_is_exact_for_unit_gaussian_data_and_fixed_small_for_a_point():
    """Ho et al.: the two variances are the right ones for x_0 ~ N(0, I) and for a single x_0, at any step size."""
    schedule = Schedule(Cosine())
    times = torch.tensor([0.9, 0.5, 0.2], dtype=F64)
    unit = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), 1.0)
    impulses = iter(torch.eye(3, dtype=F64)[1:])
    x = torch.eye(3, dtype=F64)[0][:, None]
    *_, last = DDPM(spread=1.0)(unit.denoise(schedule), x, times, schedule, lambda x: next(impulses)[:, None])
    assert last.x.square().sum().item() == pytest.approx(1, rel=1e-12)

    point = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), 0.0)
    impulses = iter(torch.eye(3, dtype=F64)[1:])
    x = x * schedule.at(times[0])[1]
    *_, last = DDPM()(point.denoise(schedule), x, times, schedule, lambda x: next(impulses)[:, None])
    assert last.x.square().sum().sqrt().item() == pytest.approx(schedule.at(times[-1])[1].item(), rel=1e-12)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_no_noise_on_arrival(spread):
    for schedule in (Schedule(Cosine()), Schedule(Cosine(None, None)), Schedule(Linear())):
        _, std = one_step(DDPM(spread), schedule, 0.1, 0.0, x_0=0.7, x=-0.4)
        assert std == 0


def test_spread_outside_its_range_is_refused():
    with pytest.raises(UserError, match="spread must lie"):
        DDPM(spread=-0.1)

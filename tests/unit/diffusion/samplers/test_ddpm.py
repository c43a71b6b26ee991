"""The ancestral posterior at any interval."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import DDPM, Cosine, GaussianMixture, Linear, Schedule, UniformGrid
from calotype.diffusion.variance import FixedLarge, FixedSmall, LearnedRange, Prediction
from calotype.errors import UserError
from calotype.registry import from_plain, to_plain

F64 = torch.float64


class Says:
    """A denoiser that always answers x_0 and v."""

    def __init__(self, x_0: float, v: float | None) -> None:
        self.x_0, self.v = x_0, v

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, self.x_0)

    def predict(self, x: torch.Tensor, t: torch.Tensor) -> Prediction:
        return Prediction(self(x, t), None if self.v is None else torch.full_like(x, self.v))


def one_step(
    sampler: DDPM, schedule: Schedule, t: float, s: float, x_0: float, x: float, v: float | None = None
) -> tuple[float, float]:
    """Mean and standard deviation of one step from x, the prediction being x_0 and v."""
    times = torch.tensor([t, s], dtype=F64)
    start, denoise = torch.tensor([[x]], dtype=F64), Says(x_0, v)
    (mean,) = sampler(denoise, start, times, schedule, torch.zeros_like)
    (moved,) = sampler(denoise, start, times, schedule, torch.ones_like)
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
    for sampler, v, variance in (
        (DDPM(), None, small),
        (DDPM(FixedLarge()), None, betas[i]),
        (DDPM(LearnedRange()), -1.0, small),
        (DDPM(LearnedRange()), 1.0, betas[i]),
        (DDPM(LearnedRange()), 0.0, (small * betas[i]).sqrt()),
    ):
        got = one_step(sampler, schedule, (i + 1) / 1000, i / 1000, x_0=0.7, x=-0.4, v=v)
        assert got == pytest.approx((mean.item(), variance.sqrt().item()), rel=1e-8)


def test_few_steps_are_the_respaced_chain():
    """Nichol & Dhariwal's respacing: a table of its own, beta' = 1 - abar_t / abar_s of the entries kept."""
    abar, kept = (1 - Linear().betas()).cumprod(0), 20
    chosen = abar[torch.arange(1, kept + 1) * (1000 // kept) - 1]
    betas = 1 - chosen / torch.cat([chosen.new_ones(1), chosen[:-1]])
    schedule = Schedule(Linear())
    times = UniformGrid()(schedule, kept)
    for i in range(1, kept):
        mean = chosen[i - 1].sqrt() * betas[i] / (1 - chosen[i]) * 0.7
        mean = mean + (1 - betas[i]).sqrt() * (1 - chosen[i - 1]) / (1 - chosen[i]) * -0.4
        t, s = times[kept - 1 - i].item(), times[kept - i].item()
        got = one_step(DDPM(FixedLarge()), schedule, t, s, x_0=0.7, x=-0.4)
        assert got == pytest.approx((mean.item(), betas[i].sqrt().item()), rel=1e-8)


def test_fixed_large_is_exact_for_unit_gaussian_data_and_fixed_small_for_a_point():
    """Ho et al.: the two variances are the right ones for x_0 ~ N(0, I) and for a single x_0, at any step size."""
    schedule = Schedule(Cosine())
    times = torch.tensor([0.9, 0.5, 0.2], dtype=F64)
    unit = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), 1.0)
    impulses = iter(torch.eye(3, dtype=F64)[1:])
    x = torch.eye(3, dtype=F64)[0][:, None]
    *_, last = DDPM(FixedLarge())(unit.denoise(schedule), x, times, schedule, lambda x: next(impulses)[:, None])
    assert last.x.square().sum().item() == pytest.approx(1, rel=1e-12)

    point = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), 0.0)
    impulses = iter(torch.eye(3, dtype=F64)[1:])
    x = x * schedule.at(times[0])[1]
    *_, last = DDPM()(point.denoise(schedule), x, times, schedule, lambda x: next(impulses)[:, None])
    assert last.x.square().sum().sqrt().item() == pytest.approx(schedule.at(times[-1])[1].item(), rel=1e-12)


@pytest.mark.parametrize("variance", [FixedSmall(), FixedLarge(), LearnedRange()], ids=str)
def test_no_noise_on_arrival(variance):
    for schedule in (Schedule(Cosine()), Schedule(Cosine(None, None)), Schedule(Linear())):
        mean, std = one_step(DDPM(variance), schedule, 0.1, 0.0, x_0=0.7, x=-0.4, v=0.5)
        assert (mean, std) == (pytest.approx(0.7), 0)


def test_a_learned_variance_needs_a_denoiser_that_says_it():
    with pytest.raises(UserError, match="learned_range"):
        one_step(DDPM(LearnedRange()), Schedule(Cosine()), 0.5, 0.4, x_0=0.7, x=-0.4)
    (step,) = DDPM()(
        lambda x, t: x, torch.ones(1, 1), torch.tensor([0.5, 0.4], dtype=F64), Schedule(), torch.zeros_like
    )
    assert step.x.isfinite().all(), "a fixed one asks any function"


def test_the_variance_survives_a_config_file():
    for variance in (FixedLarge(), LearnedRange(weight=0.01)):
        assert from_plain(to_plain(DDPM(variance))) == DDPM(variance)

"""DDIM beyond what every sampler must do."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import DDIM, DDPM, Cosine, GaussianMixture, Schedule, UniformGrid
from calotype.errors import UserError
from calotype.rng import SampleNoise

F64 = torch.float64
SCHEDULES = [Schedule(Cosine()), Schedule(Cosine(None, None))]
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_eta_one_is_ancestral_sampling(schedule):
    x = torch.tensor([[0.4], [-1.1]], dtype=F64)
    args = MIXTURE.denoise(schedule), x, UniformGrid()(schedule, 12)
    for a, b in zip(
        DDIM(eta=1.0)(*args, schedule, SampleNoise([1, 2])), DDPM()(*args, schedule, SampleNoise([1, 2])), strict=True
    ):
        # DDPM adds no noise on arrival at t = 0; a truncated schedule's sigma there is what DDIM adds
        assert torch.allclose(a.x, b.x, rtol=1e-9, atol=0 if a.t > 0 else 4 * schedule.at(a.t)[1].item() + 1e-12)


def test_the_noise_level_is_right_for_any_eta():
    """x_0 known: whatever eta, the sample at s is alpha_s x_0 plus noise of variance sigma_s^2."""
    schedule, n = SCHEDULES[0], 40_000
    times = torch.tensor([0.8, 0.5], dtype=F64)
    (_, s_t), (a_s, s_s) = schedule.at(times[0]), schedule.at(times[1])
    point = GaussianMixture.gaussian(torch.tensor([0.6], dtype=F64), 0.0)
    g = torch.Generator().manual_seed(0)
    eps = torch.randn(n, 1, generator=g, dtype=F64)
    x = schedule.at(times[0])[0] * 0.6 + s_t * eps
    for eta in (0.0, 0.5, 1.0):
        (step,) = DDIM(eta)(
            point.denoise(schedule), x, times, schedule, lambda x: torch.randn(x.shape, generator=g, dtype=F64)
        )
        assert step.x.mean().item() == pytest.approx((a_s * 0.6).item(), abs=0.015)
        assert step.x.std().item() == pytest.approx(s_s.item(), rel=0.015)


def test_eta_outside_its_range_is_refused():
    with pytest.raises(UserError, match="eta must lie"):
        DDIM(eta=1.5)

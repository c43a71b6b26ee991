"""DPM-Solver++(2M) beyond what every sampler must do."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import DDIM, Cosine, DPMpp2M, GaussianMixture, Schedule, UniformGrid
from calotype.errors import UserError

F64 = torch.float64
OPEN, TRUNCATED = Schedule(Cosine(None, None)), Schedule(Cosine())
GAUSSIAN = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), 0.5)
X = torch.tensor([[0.4], [-1.1]], dtype=F64)


def walk(sampler, schedule, times):
    return [*sampler(GAUSSIAN.denoise(schedule), X, times, schedule, torch.zeros_like)]


@pytest.mark.parametrize("schedule", [OPEN, TRUNCATED], ids=str)
def test_the_first_step_and_the_arrival_are_ddim(schedule):
    times = UniformGrid()(schedule, 8)
    ours = walk(DPMpp2M(), schedule, times)
    assert torch.allclose(ours[0].x, walk(DDIM(), schedule, times)[0].x, rtol=1e-12)
    (arrival,) = DDIM()(GAUSSIAN.denoise(schedule), ours[-2].x, times[-2:], schedule, torch.zeros_like)
    assert torch.allclose(ours[-1].x, arrival.x, rtol=1e-12)


def test_one_step_is_the_formula():
    times = torch.tensor([0.9, 0.6, 0.4], dtype=F64)
    first, second = walk(DPMpp2M(), TRUNCATED, times)
    logsnr = TRUNCATED.logsnr(times)
    (_, s_t), (a_s, s_s) = TRUNCATED.at(times[1]), TRUNCATED.at(times[2])
    h, h_before = (logsnr[2] - logsnr[1]) / 2, (logsnr[1] - logsnr[0]) / 2
    d_1 = (second.x_0 - first.x_0) / (h_before / h)
    expected = s_s / s_t * first.x - a_s * torch.expm1(-h) * (second.x_0 + d_1 / 2)
    assert torch.allclose(second.x, expected, rtol=1e-12)


@pytest.mark.parametrize("schedule", [OPEN, TRUNCATED], ids=str)
def test_beats_ddim_over_the_whole_range(schedule):
    """Exact: x_0 = x_1 times the ratio of standard deviations."""
    (a_1, s_1), (a_0, s_0) = schedule.at(torch.tensor(1.0, dtype=F64)), schedule.at(torch.tensor(0.0, dtype=F64))
    exact = X * ((a_0**2 / 4 + s_0**2) / (a_1**2 / 4 + s_1**2)).sqrt()
    times = UniformGrid()(schedule, 20)
    error = {s: (walk(s, schedule, times)[-1].x - exact).abs().max() for s in (DPMpp2M(), DDIM())}
    assert error[DPMpp2M()] < error[DDIM()] / 3


def test_eta_outside_its_range_is_refused():
    with pytest.raises(UserError, match="eta must lie"):
        DPMpp2M(eta=-0.1)

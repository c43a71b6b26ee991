"""Walks that begin with a picture, against the flow of Gaussian data, which is known."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import (
    Cosine,
    Flow,
    GaussianMixture,
    Karras,
    LinearPath,
    Schedule,
    UniformGrid,
    UniPC,
    part_of,
    samplers,
    start_from,
)
from calotype.errors import UserError

F64 = torch.float64
OPEN = Schedule(Cosine(None, None))
FLOW = Schedule(Flow(), LinearPath())


@pytest.mark.parametrize(("strength", "kept"), [(0, 0), (0.01, 0), (0.25, 5), (0.74, 14), (0.75, 15), (1, 20)])
def test_the_last_share_of_the_steps_is_kept(strength, kept):
    times = Karras()(OPEN, 20)
    part = part_of(times, strength)
    assert len(part) == kept + 1 and torch.equal(part, times[20 - kept :])


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan, math.inf])
def test_a_strength_that_is_no_share_is_refused(strength):
    with pytest.raises(UserError, match=r"strength must lie in \[0, 1\], got"):
        part_of(torch.linspace(1, 0, 5), strength)


@pytest.mark.parametrize("schedule", [OPEN, FLOW, Schedule()], ids=str)
def test_begins_with_the_noise_of_the_first_step_that_is_taken(schedule):
    x_0, eps = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 2.0)
    times = part_of(UniformGrid()(schedule, 10), 0.6)
    alpha, sigma = schedule.at(times[0])
    x = start_from(x_0, eps, times, schedule)
    assert x.dtype == torch.float32 and times[0] == 0.6
    assert torch.allclose(x, torch.full_like(x, float(0.5 * alpha + 2 * sigma)))


@pytest.mark.parametrize("name", [*samplers])
@pytest.mark.parametrize("schedule", [OPEN, Schedule()], ids=str)
def test_without_strength_the_picture_stays_to_the_last_bit(name, schedule):
    """Even on a schedule that leaves some noise at t = 0."""
    x_0, times = torch.randn(2, 1, 4, 4), part_of(UniformGrid()(schedule, 10), 0)
    x = start_from(x_0, torch.randn_like(x_0), times, schedule)
    assert torch.equal(x, x_0)
    assert [*samplers[name]()(lambda x, t: x, x, times, schedule, torch.randn_like)] == []


@pytest.mark.parametrize("name", [*samplers])
def test_a_walk_from_a_picture_is_one_over_the_steps_that_are_left(name):
    """Nothing is left over of steps that were not taken: one step and many arrive at the only point there is."""
    data = GaussianMixture.gaussian(torch.tensor([0.3, -0.7], dtype=F64), 0.0).denoise(OPEN)
    x_0, eps = torch.tensor([[2.0, 2.0]], dtype=F64), torch.tensor([[0.5, -1.0]], dtype=F64)
    for strength in (0.1, 0.5):
        times = part_of(UniformGrid()(OPEN, 10), strength)
        start = start_from(x_0, eps, times, OPEN)
        *_, last = samplers[name]()(data, start, times, OPEN, torch.randn_like)
        assert torch.allclose(last.x, torch.tensor([[0.3, -0.7]], dtype=F64), atol=1e-6)


@pytest.mark.parametrize("schedule", [OPEN, FLOW], ids=str)
@pytest.mark.parametrize("strength", [0.1, 0.4, 0.7, 0.9, 1.0])
def test_strength_draws_gaussian_data_from_the_picture_to_their_own_mean_and_variance(schedule, strength):
    """The flow of N(m, s^2) takes (x_t - alpha m) / D, D^2 = alpha^2 s^2 + sigma^2, to (x_0 - m) / s, so a picture u
    becomes N(m + s alpha (u - m) / D, (s sigma / D)^2). Affine in eps, so two values of it tell mean and deviation."""
    m, s, u = -0.4, 0.6, 1.5
    data = GaussianMixture.gaussian(torch.tensor([m], dtype=F64), s).denoise(schedule)
    times = part_of(UniformGrid()(schedule, 200), strength)
    eps = torch.tensor([[0.0], [1.0]], dtype=F64)
    start = start_from(torch.full_like(eps, u), eps, times, schedule)
    *_, last = UniPC()(data, start, times, schedule, torch.randn_like)
    alpha, sigma = (float(v) for v in schedule.at(torch.tensor(strength, dtype=F64)))
    width = math.hypot(alpha * s, sigma)
    assert last.x[0].item() == pytest.approx(m + s * alpha * (u - m) / width, abs=5e-4)
    assert (last.x[1] - last.x[0]).item() == pytest.approx(s * sigma / width, abs=5e-4)
    if strength == 1.0:
        assert last.x[0].item() == pytest.approx(m, abs=5e-4)

"""What every time sampler and every grid must do."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import Cosine, Linear, ScaledLinear, Schedule, grids, time_samplers
from calotype.errors import UserError
from calotype.registry import from_plain, to_plain

F64 = torch.float64
SCHEDULES = [Schedule(c) for c in (Cosine(), Cosine(None, None), Linear(), ScaledLinear(), ScaledLinear(steps=20))]


@pytest.fixture(params=[*time_samplers])
def time_sampler(request):
    return time_samplers[request.param]()


@pytest.fixture(params=[*grids])
def grid(request):
    return grids[request.param]()


def test_time_sampler_survives_a_config_file(time_sampler):
    assert from_plain(to_plain(time_sampler)) == time_sampler


def test_times_lie_in_the_half_open_interval(time_sampler):
    u = torch.tensor([0.0, 2.0**-24, 0.25, 0.5, 1 - 2.0**-24])
    t = time_sampler(u)
    assert t.shape == u.shape and t.dtype == F64
    assert (t > 0).all() and (t <= 1).all()


def test_times_cover_the_interval_and_only_depend_on_u(time_sampler):
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    t = time_sampler(u)
    assert t.min() < 0.05 and t.max() > 0.95 and torch.equal(t, time_sampler(u))


def test_grid_survives_a_config_file(grid):
    assert from_plain(to_plain(grid)) == grid


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 1000])
def test_grid_goes_strictly_down_from_noise_to_zero(grid, schedule, steps):
    times = grid(schedule, steps)
    assert times.shape == (steps + 1,) and times.dtype == F64 and times.device.type == "cpu"
    assert (times.diff() < 0).all()
    assert times[-1] == 0 and 0.9 < times[0] <= 1


def test_grid_refuses_less_than_one_step(grid):
    with pytest.raises(UserError, match="at least 1 step"):
        grid(Schedule(), 0)

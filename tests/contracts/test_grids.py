"""What every grid must do."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import (
    Cosine,
    CurveGrid,
    Enlarged,
    Flow,
    Laplace,
    Leading,
    Linear,
    LinearPath,
    Linspace,
    ScaledLinear,
    Schedule,
    Shifted,
    Trailing,
    UniformGrid,
    ZeroTerminal,
    grids,
)
from calotype.errors import UserError
from calotype.registry import from_plain, to_plain

F64 = torch.float64
SCHEDULES = [
    *(Schedule(c) for c in (Cosine(), Cosine(None, None), Linear(), ScaledLinear(), ScaledLinear(steps=20))),
    *(Schedule(c) for c in (ZeroTerminal(), Laplace(), Shifted(Cosine(), -2.8))),
    Schedule(Flow(), LinearPath()),
]
GRIDS = [
    *(grids[name]() for name in grids),
    *(CurveGrid(Flow()), Enlarged(UniformGrid(), 4.0), Leading(skip_first=True), Linspace(False, True)),
]
OF_ENTRIES = (Trailing, Leading, Linspace)
"""Grids that refuse what is no table; they may begin anywhere, if so spaced."""


def refused(grid, schedule, steps):
    """More steps in equal time than a table has entries, or steps over entries where there is no table."""
    entries = schedule.curve.entries
    if isinstance(grid, UniformGrid):
        return entries is not None and steps > entries
    return isinstance(grid, OF_ENTRIES) and steps > (entries or 0)


@pytest.fixture(params=GRIDS, ids=str)
def grid(request):
    return request.param


def test_survives_a_config_file(grid):
    assert from_plain(to_plain(grid)) == grid


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 999])
def test_goes_strictly_down_from_noise_to_zero(grid, schedule, steps):
    if refused(grid, schedule, steps):
        with pytest.raises(UserError, match=r"take 'uniform'|at most"):
            grid(schedule, steps)
        return
    times = grid(schedule, steps)
    assert times.shape == (steps + 1,) and times.dtype == F64 and times.device.type == "cpu"
    assert (times.diff() < 0).all()
    assert times[-1] == 0 and times[0] <= 1
    if not isinstance(grid, OF_ENTRIES):
        assert times[0] > 0.9


def test_refuses_less_than_one_step(grid):
    with pytest.raises(UserError, match="at least 1 step"):
        grid(Schedule(ScaledLinear()), 0)

"""What every time sampler must do."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import LogitNormalTimes, ModeTimes, StratifiedTimes, time_samplers
from calotype.registry import from_plain, to_plain

F64 = torch.float64
MEMBERS = [
    *(time_samplers[name]() for name in time_samplers),
    StratifiedTimes(LogitNormalTimes(-1.0, 2.0)),
    ModeTimes(-1.0),
]


@pytest.fixture(params=MEMBERS, ids=str)
def time_sampler(request):
    return request.param


def test_survives_a_config_file(time_sampler):
    assert from_plain(to_plain(time_sampler)) == time_sampler


def test_times_lie_in_the_half_open_interval(time_sampler):
    u = torch.tensor([0.0, 2.0**-24, 0.25, 0.5, 1 - 2.0**-24])
    t = time_sampler(u)
    assert t.shape == u.shape and t.dtype == F64
    assert (t > 0).all() and (t <= 1).all()


def test_the_quantile_never_decreases(time_sampler):
    t = time_sampler.quantile(torch.linspace(0, 1, 1003, dtype=F64)[1:-1])
    assert (t.diff() >= 0).all()


def test_times_cover_the_interval_and_only_depend_on_u(time_sampler):
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    t = time_sampler(u)
    assert t.min() < 0.05 and t.max() > 0.95 and torch.equal(t, time_sampler(u))

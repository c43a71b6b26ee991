"""What every curve and path must do."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import Cosine, Denoiser, Linear, ScaledLinear, Schedule, Velocity, curves, paths
from calotype.registry import from_plain, to_plain

F64 = torch.float64
CURVES = [
    *(curves[name]() for name in curves),
    Cosine(None, None),
    Cosine(-20.0, None),
    Linear(steps=10),
    ScaledLinear(0.0015, 0.0195),
]
PATHS = [paths[name]() for name in paths]
SCHEDULES = [Schedule(curve, path) for curve in CURVES for path in PATHS]

inside = torch.linspace(1e-3, 1 - 1e-3, 997, dtype=F64)
ends = torch.tensor([0.0, 1.0], dtype=F64)


@pytest.fixture(params=SCHEDULES, ids=str)
def schedule(request):
    return request.param


def test_survives_a_config_file(schedule):
    assert from_plain(to_plain(schedule), Schedule) == schedule


def test_logsnr_decreases_strictly(schedule):
    t = torch.cat([ends[:1], inside, ends[1:]])
    assert (schedule.logsnr(t).diff() < 0).all()


def test_time_is_the_inverse_of_logsnr(schedule):
    t = torch.cat([ends, inside, torch.tensor([1e-6, 1e-5, 1 - 1e-5, 1 - 1e-6], dtype=F64)])
    assert torch.allclose(schedule.time(schedule.logsnr(t)), t, rtol=0, atol=1e-9)
    assert torch.allclose(schedule.logsnr(schedule.time(schedule.logsnr(inside))), schedule.logsnr(inside), atol=1e-9)


def test_time_beyond_the_ends_is_the_end(schedule):
    assert torch.equal(schedule.time(torch.tensor([math.inf, -math.inf], dtype=F64)), ends)
    assert torch.equal(schedule.time(torch.tensor([-1e4, 1e4], dtype=F64)).round(decimals=9), ends.flip(0))


def test_alpha_and_sigma_have_that_logsnr(schedule):
    alpha, sigma = schedule.at(inside)
    assert torch.allclose(2 * (alpha / sigma).log(), schedule.logsnr(inside), rtol=1e-12, atol=1e-9)


def test_is_finite_at_both_ends_and_ordered(schedule):
    alpha, sigma = schedule.at(torch.cat([ends[:1], inside, ends[1:]]))
    assert alpha.isfinite().all() and sigma.isfinite().all()
    assert ((alpha / sigma).diff() < 0).all() and alpha[0] > 0 and sigma[-1] > 0


def test_keeps_shape_and_dtype(schedule):
    for dtype in (torch.float32, F64):
        for t in (torch.tensor(0.3, dtype=dtype), torch.rand(5).to(dtype), torch.rand(2, 3).to(dtype)):
            for value in (*schedule.at(t), schedule.logsnr(t), schedule.time(t)):
                assert value.shape == t.shape and value.dtype == dtype


def test_float32_times_lose_nothing_but_float32(schedule):
    exact = schedule.at(inside.float().double())
    for single, double in zip(schedule.at(inside.float()), exact, strict=True):
        assert torch.equal(single, double.float())


def test_the_clock_decreases_with_no_reading_below_zero(schedule):
    readings = schedule.clock(torch.cat([ends[:1], inside, ends[1:]]))
    assert (readings.diff() >= 0).all() and readings[0] == 0 and readings[-1] > 0


def test_a_denoiser_can_be_built_on_it(schedule):
    x, t = torch.ones(2, 1, 1, 1), torch.tensor([0.0, 1.0])
    denoiser = Denoiser(lambda x, time, cond: torch.zeros_like(x), schedule, Velocity())
    assert denoiser(x, t, None).isfinite().all()

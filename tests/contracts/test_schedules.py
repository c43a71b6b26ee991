"""What every curve and path must do."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.diffusion import (
    VPSDE,
    AbarSigmoid,
    Betas,
    Clamped,
    Cosine,
    Denoiser,
    Epsilon,
    Flow,
    Interpolated,
    Laplace,
    Linear,
    LogNormal,
    ScaledLinear,
    Schedule,
    Shifted,
    VarianceExploding,
    VariancePreserving,
    Velocity,
    ZeroTerminal,
    curves,
    paths,
)
from calotype.errors import UserError
from calotype.registry import from_plain, to_plain

F64 = torch.float64
NO_DEFAULT = {"betas": Betas((0.1, 0.02, 0.3, 0.1))}
CURVES = [
    *(NO_DEFAULT.get(name) or curves[name]() for name in curves),
    Cosine(None, None),
    Cosine(-20.0, None),
    Linear(steps=10),
    ScaledLinear(0.0015, 0.0195),
    VPSDE(0.0, 12.0),
    AbarSigmoid(0.0, 3.0, 0.7),
    Laplace(-1.0, 0.75),
    Shifted(Flow(), -2.2),
    Shifted(ZeroTerminal(Linear()), -2.8),
    Interpolated(flipped=True),
    Interpolated(ScaledLinear(), 256),
    Clamped(ScaledLinear(), -5.0, 6.0),
    Clamped(Shifted(Cosine(None, None), -4.2), -12.0, None),
]
PATHS = [paths[name]() for name in paths]
OPEN = torch.ones(1, dtype=F64)


def leaves_no_signal(curve) -> bool:
    return bool(curve.logsnr(OPEN).isinf())


SCHEDULES = [
    Schedule(curve, path)
    for curve in CURVES
    for path in PATHS
    if not (isinstance(path, VarianceExploding) and leaves_no_signal(curve))
]

inside = torch.linspace(1e-3, 1 - 1e-3, 997, dtype=F64)
ends = torch.tensor([0.0, 1.0], dtype=F64)


@pytest.fixture(params=CURVES, ids=str)
def curve(request):
    return request.param


@pytest.fixture(params=SCHEDULES, ids=str)
def schedule(request):
    return request.param


def test_survives_a_config_file(schedule):
    assert from_plain(to_plain(schedule), Schedule) == schedule


def test_cites_its_source_or_says_that_it_is_made_of_another(curve):
    assert "http" in type(curve).__doc__ or isinstance(curve, Clamped | Betas)


def test_logsnr_decreases_strictly(curve):
    t = torch.cat([ends[:1], inside, ends[1:]])
    assert (curve.logsnr(t).diff() < 0).all()


def test_time_is_the_inverse_of_logsnr(curve):
    schedule = Schedule(curve)
    t = torch.cat([ends, inside, torch.tensor([1e-6, 1e-5, 1 - 1e-5, 1 - 1e-6], dtype=F64)])
    assert torch.allclose(schedule.time(schedule.logsnr(t)), t, rtol=0, atol=1e-9)
    assert torch.allclose(schedule.logsnr(schedule.time(schedule.logsnr(inside))), schedule.logsnr(inside), atol=1e-9)


def test_time_beyond_the_ends_is_the_end(curve):
    assert torch.equal(curve.time(torch.tensor([math.inf, -math.inf], dtype=F64)), ends)
    assert torch.equal(curve.time(torch.tensor([-1e4, 1e4], dtype=F64)).round(decimals=9), ends.flip(0))


def test_slope_is_the_derivative(curve):
    """Between the differences on either side, which are two numbers at the corners of a table or a density."""
    t, h = inside, 1e-7
    before, after = (curve.logsnr(t) - curve.logsnr(t - h)) / h, (curve.logsnr(t + h) - curve.logsnr(t)) / h
    slope = curve.slope(t)
    assert (slope < 0).all()
    assert (slope > 1.0002 * torch.minimum(before, after)).all()
    assert (slope < 0.9998 * torch.maximum(before, after)).all()
    assert curve.slope(t.float()).dtype == torch.float32 and curve.slope(t.view(1, -1)).shape == (1, 997)


def test_slope_is_negative_at_the_ends_and_infinite_where_logsnr_is(curve):
    slope, infinite = curve.slope(ends), curve.logsnr(ends).isinf()
    assert (slope < 0).all() and slope[infinite].isinf().all()


def test_slope_is_there_without_gradients(curve):
    with torch.inference_mode():
        a = curve.slope(inside[:3].clone())
    with torch.no_grad():
        assert torch.equal(a, curve.slope(inside[:3]))


def test_entries_are_where_the_clock_says(curve):
    if curve.entries is not None:
        index = torch.arange(curve.entries, dtype=F64)
        assert torch.allclose(curve.clock((index + 1) / curve.entries), index, atol=1e-9)


def test_epsilon_is_refused_where_there_is_no_signal_and_nowhere_else(curve):
    def build():
        return Denoiser(lambda x, time, cond: x, Schedule(curve), Epsilon())

    if leaves_no_signal(curve):
        with pytest.raises(UserError, match="undefined at t = 1"):
            build()
    else:
        build()


def test_infinite_noise_is_refused_where_there_is_no_signal(curve):
    if leaves_no_signal(curve):
        with pytest.raises(UserError, match="infinitely much noise"):
            Schedule(curve, VarianceExploding())


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
    assert (readings.diff() >= 0).all() and 0 <= readings[0] < readings[-1]


def test_a_denoiser_can_be_built_on_it(schedule):
    x, t = torch.ones(2, 1, 1, 1), torch.tensor([0.0, 1.0])
    denoiser = Denoiser(lambda x, time, cond: torch.zeros_like(x), schedule, Velocity())
    assert denoiser(x, t, None).isfinite().all()


def test_paths_differ_by_the_scale_of_x_t_alone():
    for path in PATHS:
        alpha, sigma = path(torch.linspace(-20, 20, 41, dtype=F64))
        a, s = VariancePreserving()(torch.linspace(-20, 20, 41, dtype=F64))
        assert torch.allclose(alpha * s, sigma * a, rtol=1e-12)


numbers = st.floats(-8, 8)
scales = st.floats(0.2, 4)
any_curve = st.one_of(
    st.builds(lambda low, width: Cosine(low, low + width), numbers, st.floats(1, 30)),
    st.builds(Laplace, numbers, scales),
    st.builds(LogNormal, numbers, scales, scales),
    st.builds(lambda start, width, tau: AbarSigmoid(start, start + width, tau), numbers, scales, scales),
    st.builds(VPSDE, st.floats(0, 40), st.floats(0.01, 20)),
    st.builds(lambda values: Betas(tuple(values)), st.lists(st.floats(1e-5, 0.5), min_size=2, max_size=30)),
)
any_wrapped = st.one_of(
    any_curve,
    st.builds(Shifted, any_curve, numbers),
    st.builds(lambda curve, shift: Clamped(Shifted(curve, shift), None, None), any_curve, numbers),
    st.builds(lambda curve, low, times: Interpolated(curve, 512, low, low * times), any_curve, st.integers(8, 64),
              st.integers(1, 8)),
)  # fmt: skip


@given(any_wrapped)
@settings(max_examples=80, deadline=None)
def test_any_fields_give_a_decreasing_invertible_curve(curve):
    t = torch.linspace(0.002, 0.998, 333, dtype=F64)
    logsnr = curve.logsnr(t)
    assert logsnr.isfinite().all() and (logsnr.diff() < 0).all()
    assert torch.allclose(curve.time(logsnr), t, rtol=0, atol=1e-9)

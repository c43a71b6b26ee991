"""Times at random, against the densities they are named after."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.diffusion import (
    Cosine,
    CosMapTimes,
    CurveTimes,
    DiscreteTimes,
    Flow,
    LogitNormalTimes,
    LogNormal,
    ModeTimes,
    ScaledLinear,
    Schedule,
    StratifiedTimes,
    UniformTimes,
)
from calotype.errors import UserError

F64 = torch.float64
ndtr = torch.special.ndtr
HIGHEST = 2 / (math.pi - 2)


def log_normal_cdf(curve):
    """P(t <= x) = P(log sigma <= log sigma(x)), sigma in the units of the paper."""

    def cdf(t):
        log_sigma = -curve.logsnr(t) / 2 + math.log(0.5)
        return ndtr((log_sigma + 1.2) / 1.2)

    return cdf


CDFS = {
    UniformTimes(): lambda t: t,
    LogitNormalTimes(): lambda t: ndtr((t / (1 - t)).log()),
    LogitNormalTimes(0.5, 0.6): lambda t: ndtr(((t / (1 - t)).log() - 0.5) / 0.6),
    CosMapTimes(): lambda t: 2 / math.pi * (t / (1 - t)).atan(),
    CurveTimes(): log_normal_cdf(Cosine()),
    CurveTimes(LogNormal(), Flow()): log_normal_cdf(Flow()),
}

DENSITIES = {
    UniformTimes(): torch.ones_like,
    LogitNormalTimes(0.5, 0.6): lambda t: (
        (-((((t / (1 - t)).log() - 0.5) / 0.6) ** 2) / 2).exp() / (0.6 * math.sqrt(2 * math.pi) * t * (1 - t))
    ),
    CosMapTimes(): lambda t: 2 / (math.pi - 2 * math.pi * t + 2 * math.pi * t**2),
}

u = torch.linspace(0.005, 0.995, 199, dtype=F64)
each = pytest.mark.parametrize("times", CDFS, ids=str)


@each
def test_quantile_is_the_inverse_of_the_distribution_function(times):
    assert torch.allclose(CDFS[times](times.quantile(u)), u, rtol=0, atol=1e-9)


@pytest.mark.parametrize("times", DENSITIES, ids=str)
def test_density_is_the_stated_one(times):
    h = 1e-6
    derivative = (times.quantile(u + h) - times.quantile(u - h)) / (2 * h)
    assert torch.allclose(1 / derivative, DENSITIES[times](times.quantile(u)), rtol=1e-6)


@each
def test_drawn_times_follow_the_distribution(times):
    """Kolmogorov and Smirnov: sup |empirical - CDF| sqrt(n) exceeds 1.63 once in a hundred."""
    n = 20_000
    t = times(torch.rand(n, generator=torch.Generator().manual_seed(0))).sort().values
    steps = torch.arange(n, dtype=F64) / n
    cdf = CDFS[times](t)
    assert max((cdf - steps).max(), (steps + 1 / n - cdf).max()).item() * math.sqrt(n) < 1.63


def test_uniform_times_are_u_but_never_an_end():
    u = torch.tensor([0.0, 0.5, 1 - 2.0**-24])
    t = UniformTimes()(u)
    assert torch.allclose(t, u.double(), atol=1e-7) and t[0] > 0 and t[-1] < 1


@pytest.mark.parametrize("of", [UniformTimes(), LogitNormalTimes(0.5, 0.6), ModeTimes()], ids=str)
def test_stratified_times_lie_one_in_each_slice(of):
    drawn = torch.rand(16, generator=torch.Generator().manual_seed(0))
    edges = of.quantile(torch.arange(1, 16, dtype=F64) / 16)
    for draw in (drawn, torch.zeros(16), torch.full((16,), 1 - 2.0**-24)):
        assert torch.equal(torch.bucketize(StratifiedTimes(of)(draw), edges), torch.arange(16))


def test_stratified_times_draw_every_row_by_its_own_number():
    u = torch.rand(16, generator=torch.Generator().manual_seed(0))
    within = StratifiedTimes()(u) * 16 - torch.arange(16)
    assert torch.allclose(within, u.double(), rtol=0, atol=1e-6)


def test_discrete_times_are_the_entries_of_the_table():
    t = DiscreteTimes(1000)(torch.tensor([0.0, 0.0004, 0.9999]))
    assert torch.allclose(t, torch.tensor([0.001, 0.001, 1.0], dtype=F64))
    assert Schedule(ScaledLinear()).clock(t).round().tolist() == [0, 0, 999]
    counts = DiscreteTimes(8)(torch.arange(800) / 800).mul(8).long().bincount()
    assert counts.tolist() == [0, *[100] * 8]


def paper_mode(w, s):
    return 1 - w - s * ((math.pi / 2 * w).cos() ** 2 - 1 + w)


@given(st.floats(-1, HIGHEST))
@settings(max_examples=50, deadline=None)
def test_mode_is_the_papers_map_of_a_uniform_number_and_monotonic(scale):
    t = ModeTimes(scale).quantile(u)
    assert torch.allclose(t, paper_mode(1 - u, scale), atol=1e-7) and (t.diff() > 0).all()


def test_mode_of_scale_zero_is_uniform_and_positive_scales_favour_the_middle():
    assert torch.allclose(ModeTimes(0.0).quantile(u), u, atol=1e-15)
    ends = torch.tensor([0.25, 0.75], dtype=F64)
    spreads = [ModeTimes(s).quantile(ends).diff().item() for s in (-0.9, 0.0, 0.9)]
    assert spreads[0] > spreads[1] > spreads[2]


def test_beyond_its_range_of_scales_mode_would_not_be_monotonic():
    fine = torch.linspace(0, 1, 100_001, dtype=F64)
    for scale in (-1.05, HIGHEST + 0.05):
        assert (paper_mode(fine, scale).diff() > 0).any()
        with pytest.raises(UserError, match=r"1\.7519"):
            ModeTimes(scale)


def test_cosmap_gives_flow_the_noise_levels_of_a_cosine():
    assert torch.allclose(Flow().logsnr(CosMapTimes().quantile(u)), Cosine(None, None).logsnr(u), atol=1e-12)


def test_times_by_a_curve_have_its_levels():
    t = CurveTimes(LogNormal(), Flow()).quantile(u)
    assert torch.allclose(Flow().logsnr(t), LogNormal().logsnr(u), atol=1e-9)
    assert torch.allclose(CurveTimes(Cosine(), Cosine()).quantile(u), u, atol=1e-12), "its own levels are uniform"


def test_wrong_fields_are_explained():
    with pytest.raises(UserError, match="at least 1 step"):
        DiscreteTimes(0)
    for wrong in ((0.0, 0.0), (math.inf, 1.0)):
        with pytest.raises(UserError, match="std > 0"):
            LogitNormalTimes(*wrong)

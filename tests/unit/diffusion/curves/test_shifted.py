"""More noise for larger pictures, as three papers say it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.diffusion import AbarLinear, Cosine, Flow, Interpolated, ScaledLinear, Schedule, Shifted
from calotype.errors import UserError

F64 = torch.float64
t = torch.linspace(0, 1, 101, dtype=F64)
OPEN = Cosine(None, None)


@pytest.mark.parametrize(("side", "shift"), [(64, 0), (128, -1.386), (256, -2.773), (512, -4.159), (1024, -5.545)])
def test_shift_of_a_side(side, shift):
    curve = Shifted.by_side(OPEN, side)
    assert curve.shift == pytest.approx(shift, abs=5e-4)
    inside = t[1:-1]
    assert torch.allclose(curve.logsnr(inside).exp(), OPEN.logsnr(inside).exp() * (64 / side) ** 2, rtol=1e-12)


def test_averaging_down_to_the_reference_gives_back_the_unshifted_noise():
    """k x k pixels of one colour, averaged: the signal stays, the variance of the noise is divided by k^2."""
    alpha, sigma = Schedule(Shifted.by_side(OPEN, 256)).at(t[1:-1])
    k = 256 // 64
    assert torch.allclose(2 * (alpha / (sigma / k)).log(), OPEN.logsnr(t[1:-1]), atol=1e-12)


def test_timestep_shift_is_a_shift_of_log_snr():
    a = 3.0
    inside = t[1:-1]
    moved = a * inside / (1 + (a - 1) * inside)
    assert torch.allclose(Shifted.by_timestep(Flow(), a).logsnr(inside), Flow().logsnr(moved), atol=1e-12)
    times = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    assert Flow().time(Shifted.by_timestep(Flow(), a).logsnr(times)).tolist() == pytest.approx([0.25, 0.75, 0.9642857])


@given(st.integers(8, 4096), st.integers(8, 4096))
@settings(max_examples=50, deadline=None)
def test_timestep_shift_and_resolution_shift_are_one_constant(side, base):
    """a = sqrt(m / n) for pictures of m = side^2 pixels by a curve for n = base^2."""
    by_timestep = Shifted.by_timestep(Flow(), math.sqrt(side**2 / base**2))
    assert by_timestep.shift == pytest.approx(Shifted.by_side(Flow(), side, base).shift, abs=1e-12)


def test_input_scaling_with_normalised_variance_is_a_shift():
    """x_t = (sqrt(gamma) b x_0 + sqrt(1 - gamma) eps) / sqrt((b^2 - 1) gamma + 1) with gamma = 1 - t."""
    b, gamma = 0.3, 1 - t
    alpha, sigma = Schedule(Shifted.by_input_scale(AbarLinear(), b)).at(t)
    norm = ((b**2 - 1) * gamma + 1).sqrt()
    assert torch.allclose(alpha, b * gamma.sqrt() / norm, atol=1e-15)
    assert torch.allclose(sigma, (1 - gamma).sqrt() / norm, atol=1e-15)
    assert Shifted.by_input_scale(AbarLinear(), b).shift == 2 * math.log(b), "not log b"


def test_the_network_keeps_its_clock():
    assert Shifted(ScaledLinear(), -1.0).clock == ScaledLinear().clock
    assert Shifted(ScaledLinear(), -1.0).entries == 1000 and Shifted(OPEN).entries is None


def test_interpolated_goes_from_one_shift_to_the_other():
    inside = t[1:-1]
    low, high = Shifted.by_side(OPEN, 512, 32).logsnr(inside), Shifted.by_side(OPEN, 512, 256).logsnr(inside)
    assert torch.allclose(Interpolated(OPEN).logsnr(inside), inside * low + (1 - inside) * high, atol=1e-12)
    flipped = Interpolated(OPEN, flipped=True).logsnr(inside)
    assert torch.allclose(flipped, inside * high + (1 - inside) * low, atol=1e-12)


def test_the_default_orientation_has_the_wider_range():
    ends = torch.tensor([0.0, 1.0], dtype=F64)
    wide, narrow = (-Interpolated(flipped=f).logsnr(ends).diff().item() for f in (False, True))
    assert wide == pytest.approx(30 + 4 * math.log(2 * math.sqrt(2))) and narrow == pytest.approx(60 - wide)


def test_interpolation_between_equals_is_a_shift():
    same = Interpolated(OPEN, 512, 64, 64)
    assert torch.allclose(same.logsnr(t[1:-1]), Shifted.by_side(OPEN, 512).logsnr(t[1:-1]), atol=1e-12)


def test_wrong_fields_are_explained():
    with pytest.raises(UserError, match="finite shift"):
        Shifted(OPEN, math.inf)
    for wrong in (
        lambda: Shifted.by_side(OPEN, 0),
        lambda: Shifted.by_timestep(OPEN, -1),
        lambda: Shifted.by_input_scale(OPEN, 0),
    ):
        with pytest.raises(UserError, match="positive"):
            wrong()
    with pytest.raises(UserError, match="low <= high"):
        Interpolated(low=64, high=32)
    with pytest.raises(UserError, match="one noise level would have two times"):
        Interpolated(low=1, high=10_000, flipped=True)

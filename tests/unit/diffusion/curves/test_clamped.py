"""A part of a curve."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import Clamped, Cosine, Flow, ScaledLinear, Shifted
from calotype.errors import UserError

F64 = torch.float64
t = torch.linspace(0, 1, 101, dtype=F64)


@pytest.mark.parametrize(("low", "high"), [(-15.0, 15.0), (-12.0, 9.0), (None, 9.0), (-3.0, None)])
def test_a_clamped_cosine_is_the_truncated_one(low, high):
    clamped, truncated = Clamped(Cosine(None, None), low, high).logsnr(t), Cosine(low, high).logsnr(t)
    finite = truncated.isfinite()
    assert torch.allclose(clamped[finite], truncated[finite], atol=1e-9)
    assert torch.equal(clamped[~finite], truncated[~finite])


def test_clamping_a_shifted_curve_keeps_the_range_in_place():
    ends = torch.tensor([0.0, 1.0], dtype=F64)
    open_shifted = Shifted.by_side(Cosine(None, None), 512)
    assert Clamped(open_shifted, -10.0, 10.0).logsnr(ends).tolist() == pytest.approx([10, -10], abs=1e-9)
    moved = Shifted.by_side(Cosine(-10.0, 10.0), 512).logsnr(ends).tolist()
    assert moved == pytest.approx([10 - 4.1589, -10 - 4.1589], abs=1e-4)


def test_the_range_is_cut_to_what_the_curve_offers():
    assert torch.allclose(Clamped(Cosine(-5.0, 5.0), -50.0, 50.0).logsnr(t), Cosine(-5.0, 5.0).logsnr(t))


def test_a_trained_network_is_told_the_same_at_the_same_noise():
    part = Clamped(ScaledLinear(), -5.0, 6.0)
    index = ScaledLinear().clock(ScaledLinear().time(part.logsnr(t)))
    assert torch.allclose(part.clock(t), index, atol=1e-9) and part.entries is None


def test_an_empty_range_is_explained():
    for low, high in ((5.0, -5.0), (20.0, 30.0), (-40.0, -30.0)):
        with pytest.raises(UserError, match="overlaps"):
            Clamped(Cosine(), low, high)
    assert Clamped(Flow(), None, None).logsnr(torch.ones(1, dtype=F64)) == -math.inf

"""The cosine in continuous time."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import Cosine, Schedule
from calotype.errors import UserError

F64 = torch.float64


def test_open_cosine_is_cosine_and_sine():
    t = torch.linspace(0, 1, 101, dtype=F64)
    alpha, sigma = Schedule(Cosine(None, None)).at(t)
    assert torch.allclose(alpha, (math.pi / 2 * t).cos(), atol=1e-15)
    assert torch.allclose(sigma, (math.pi / 2 * t).sin(), atol=1e-15)
    assert (alpha[0], sigma[0]) == (1, 0) and (alpha[-1], sigma[-1]) == (0, 1), "exactly"


def test_truncated_cosine_ends_where_it_is_told():
    ends = Schedule(Cosine(-12.0, 9.0)).logsnr(torch.tensor([1.0, 0.0], dtype=F64))
    assert ends.tolist() == pytest.approx([-12, 9], abs=1e-9)
    half_open = Schedule(Cosine(None, 9.0)).logsnr(torch.tensor([1.0, 0.0], dtype=F64))
    assert half_open[0] == -math.inf and half_open[1].item() == pytest.approx(9)


def test_density_of_log_snr_is_a_hyperbolic_secant():
    t = torch.linspace(0.01, 0.99, 99, dtype=F64)
    curve = Cosine(None, None)
    expected = 1 / (2 * math.pi * (curve.logsnr(t) / 2).cosh())
    assert torch.allclose(-1 / curve.slope(t), expected, rtol=1e-12)


def test_wrong_fields_are_explained():
    with pytest.raises(UserError, match="logsnr_min < logsnr_max"):
        Cosine(5.0, -5.0)

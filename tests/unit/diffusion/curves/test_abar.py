"""Curves defined by abar, against their defining formulas."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import VPSDE, AbarLinear, AbarSigmoid, Schedule
from calotype.errors import UserError

F64 = torch.float64
t = torch.linspace(0.01, 0.99, 99, dtype=F64)


def abar(curve):
    return Schedule(curve).at(t)[0] ** 2


def test_abar_linear():
    assert torch.allclose(abar(AbarLinear()), 1 - t, rtol=1e-13)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3, 3, 1.0), (-3, 3, 0.9), (0, 3, 0.7), (-3, 1, 1.1), (-2, 6, 0.3)])
def test_abar_sigmoid(start, end, tau):
    def s(x):
        return (torch.as_tensor(x, dtype=F64) / tau).sigmoid()

    expected = (s(end) - s(start + t * (end - start))) / (s(end) - s(start))
    assert torch.allclose(abar(AbarSigmoid(start, end, tau)), expected, rtol=1e-11)


def test_abar_sigmoid_of_a_large_tau_is_linear():
    assert torch.allclose(abar(AbarSigmoid(tau=1e4)), 1 - t, rtol=1e-6)


def test_vp_sde():
    b = 19.9 / 2 * t**2 + 0.1 * t
    assert torch.allclose(abar(VPSDE()), (-b).exp(), rtol=1e-12)
    alpha, sigma = Schedule(VPSDE()).at(t)
    assert torch.allclose(sigma / alpha, (b.exp() - 1).sqrt(), rtol=1e-12)


def test_vp_sde_with_constant_beta_is_exponential():
    assert torch.allclose(abar(VPSDE(0.0, 12.0)), (-12 * t).exp(), rtol=1e-12)


def test_wrong_fields_are_explained():
    for wrong in ((3.0, -3.0, 1.0), (-3.0, 3.0, 0.0), (-3.0, 3.0, 1e-3)):
        with pytest.raises(UserError, match="start < end, tau > 0"):
            AbarSigmoid(*wrong)
    for wrong in ((-1.0, 2.0), (0.0, 0.0), (1e5, 0.0)):
        with pytest.raises(UserError, match="beta_d >= 0"):
            VPSDE(*wrong)

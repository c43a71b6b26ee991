"""Guidance by a second network against closed forms."""

from __future__ import annotations

import pytest
import torch

from calotype.condition import Condition
from calotype.diffusion import X0, ClassifierFree, Cosine, Denoiser, Linear, Schedule, Unguided, Velocity
from calotype.diffusion.guidance import Autoguidance, ForeignNull
from calotype.errors import UserError

SCHEDULE = Schedule(Cosine())


def constant(gain: float) -> Denoiser:
    """Predicts gain * (condition's number)."""
    return Denoiser(lambda x, time, cond: gain * cond.vector[:, :1, None, None] + 0 * x, SCHEDULE, X0())


def said(*values: float) -> Condition:
    return Condition(vector=torch.tensor(values, dtype=torch.float32)[:, None])


x, t = torch.zeros(2, 1, 2, 2), torch.tensor([0.3, 0.7])


def test_autoguidance_goes_from_the_worse_network_through_the_better_one():
    guided = Autoguidance(2.5, worse=constant(0.6))(constant(1.0), said(1, 2), said(9, 9))(x, t)
    expected = torch.tensor([1.0, 2.0]) * (0.6 + 2.5 * (1 - 0.6))
    assert torch.allclose(guided, expected.view(2, 1, 1, 1).expand_as(x))


def test_scale_one_never_asks_the_worse_network():
    def never(x, time, cond):
        raise AssertionError

    guided = Autoguidance(1.0, worse=Denoiser(never, SCHEDULE, X0()))(constant(1.0), said(1, 2), said(9, 9))(x, t)
    assert torch.equal(guided, Unguided()(constant(1.0), said(1, 2), said(9, 9))(x, t))


def test_the_networks_may_predict_different_things():
    """Velocity -> x_0 = alpha x_t - sigma v."""
    worse = Denoiser(lambda x, time, cond: torch.ones_like(x), SCHEDULE, Velocity())
    y = torch.randn(2, 1, 2, 2)
    alpha, sigma = (v.view(2, 1, 1, 1) for v in SCHEDULE.at(t))
    guided = Autoguidance(3.0, worse=worse)(constant(1.0), said(1, 2), said(0, 0))(y, t)
    bad, good = alpha * y - sigma, torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    assert torch.allclose(guided, bad + 3 * (good - bad), atol=1e-5)


def test_null_by_a_copy_of_the_network_is_classifier_free_guidance():
    cond, null = said(1, 2), said(0.5, 0.5)
    ours = ForeignNull(4.0, other=constant(1.0))(constant(1.0), cond, null)(x, t)
    assert torch.allclose(ours, ClassifierFree(4.0)(constant(1.0), cond, null)(x, t))


def test_null_may_be_an_unconditional_networks():
    other = Denoiser(lambda x, time, cond: x + 0.5, SCHEDULE, X0())
    guided = ForeignNull(3.0, other=other, null=Condition())(constant(1.0), said(1, 2), Condition())(x, t)
    expected = 0.5 + 3 * (torch.tensor([1.0, 2.0]) - 0.5)
    assert torch.allclose(guided, expected.view(2, 1, 1, 1).expand_as(x))


def test_one_row_of_null_serves_all():
    a = ForeignNull(3.0, other=constant(0.3), null=said(2.0))(constant(1.0), said(1, 2), said(0, 0))(x, t)
    b = ForeignNull(3.0, other=constant(0.3))(constant(1.0), said(1, 2), said(2, 2))(x, t)
    assert torch.equal(a, b)


def test_impossible_pairs_are_refused():
    other = Denoiser(lambda x, time, cond: x, Schedule(Linear()), X0())
    for guidance in (Autoguidance(2.0, worse=other), ForeignNull(2.0, other=other)):
        with pytest.raises(UserError, match="must share a schedule"):
            guidance(constant(1.0), said(1), said(0))
    with pytest.raises(UserError, match="null has none"):
        ForeignNull(2.0, other=constant(1.0))(constant(1.0), said(1), Condition())
    with pytest.raises(UserError, match="scale must lie in"):
        Autoguidance(float("nan"), worse=constant(1.0))

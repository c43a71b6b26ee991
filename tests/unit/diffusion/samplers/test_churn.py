"""Churn: the noise that is added is the noise that is missing."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import Cosine, Linear, Schedule
from calotype.diffusion.samplers import Churn
from calotype.errors import UserError

F64 = torch.float64


def at(t: float) -> torch.Tensor:
    return torch.tensor(t, dtype=F64)


@pytest.mark.parametrize("schedule", [Schedule(Cosine()), Schedule(Linear())], ids=str)
@pytest.mark.parametrize(("amount", "gamma"), [(2.0, 0.2), (80.0, math.sqrt(2) - 1)])
def test_goes_to_one_plus_gamma_times_sigma(schedule, amount, gamma):
    x, t = torch.tensor([[0.7]], dtype=F64), at(0.6)
    (a_t, s_t) = schedule.at(t)
    mean, later = Churn(amount)(schedule, x, t, 10, torch.zeros_like)
    a, s = schedule.at(later)
    assert (s / a / (s_t / a_t)).item() == pytest.approx(1 + gamma, rel=1e-9)
    assert (mean / a).item() == pytest.approx((x / a_t).item(), rel=1e-12), "the signal stays"
    moved, _ = Churn(amount)(schedule, x, t, 10, torch.ones_like)
    assert ((moved - mean) ** 2).item() == pytest.approx((s**2 - (a * s_t / a_t) ** 2).item(), rel=1e-9)
    louder, _ = Churn(amount, noise=1.007)(schedule, x, t, 10, torch.ones_like)
    assert ((louder - mean) / (moved - mean)).item() == pytest.approx(1.007)


def test_acts_between_its_ends_alone():
    schedule, x, t = Schedule(Cosine(None, None)), torch.zeros(1, 1, dtype=F64), at(0.5)  # sigma / alpha = 1
    for churn, acts in (
        (Churn(3, low=0.9, high=1.1), True),
        (Churn(3, low=1.1), False),
        (Churn(3, high=0.9), False),
        (Churn(0), False),
    ):
        assert (churn(schedule, x, t, 10, torch.ones_like)[1] > t) == acts


def test_ends_where_the_schedule_does():
    x = torch.ones(1, 1, dtype=F64)
    moved, later = Churn(80)(Schedule(Cosine()), x, at(1.0), 10, torch.ones_like)
    assert later == 1 and torch.allclose(moved, x, rtol=1e-6)
    moved, later = Churn(80)(Schedule(Cosine(None, None)), x, at(1.0), 10, torch.ones_like)
    assert later == 1 and torch.equal(moved, x), "no signal, nothing to add noise to"


@pytest.mark.parametrize(
    "fields", [{"amount": -1.0}, {"noise": 0.0}, {"noise": math.inf}, {"low": 2.0, "high": 1.0}, {"low": -1.0}]
)
def test_impossible_fields_are_refused(fields):
    with pytest.raises(UserError, match="churn needs"):
        Churn(**fields)

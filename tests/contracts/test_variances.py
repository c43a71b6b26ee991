"""What every variance of the reverse step and every readout must do."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import Cosine, Linear, Schedule
from calotype.diffusion.readout import readouts
from calotype.diffusion.variance import Prediction, Transition, step_bits, variances
from calotype.registry import from_plain, to_plain

F64 = torch.float64
VARIANCES = [variances[name]() for name in variances]
READOUTS = [readouts[name]() for name in readouts]
SCHEDULES = [Schedule(Cosine()), Schedule(Linear()), Schedule(Cosine(None, None))]
each = pytest.mark.parametrize("variance", VARIANCES, ids=str)
each_readout = pytest.mark.parametrize("readout", READOUTS, ids=str)
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=["cosine", "table", "open"])

T = torch.tensor([1.0, 1.0, 0.7, 0.3, 0.002, 0.001], dtype=F64)
TO = torch.tensor([0.999, 0.4, 0.699, 0.0, 0.001, 0.0], dtype=F64)


def draw(*shape: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("member", [*VARIANCES, *READOUTS], ids=str)
def test_survives_a_config_file(member):
    assert from_plain(to_plain(member)) == member


@each
@each_schedule
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_is_finite_at_both_ends_and_between_the_bounds(variance, schedule, dtype):
    step, x = Transition.of(schedule, T, TO), draw(6, 2, 3, 3, dtype=dtype)
    v = draw(6, 2, 3, 3, seed=1, dtype=dtype).tanh()
    found = variance.log_variance(step, x, v if variance.outputs == 2 else None).expand_as(x)
    assert found.dtype == dtype and found.isfinite().all()
    low = torch.minimum(step.log_small, step.log_large).view(-1, 1, 1, 1) - 1e-4
    high = torch.maximum(step.log_small, step.log_large).view(-1, 1, 1, 1) + 1e-4
    assert ((low <= found) & (found <= high)).all()


@each
def test_one_number_or_one_per_sample_are_the_same(variance):
    x, v = draw(2, 1, 3, 3), draw(2, 1, 3, 3, seed=1)
    one = Transition.of(SCHEDULES[0], torch.tensor(0.5), torch.tensor(0.4))
    two = Transition.of(SCHEDULES[0], torch.full((2,), 0.5), torch.full((2,), 0.4))
    found = [variance.log_variance(step, x, v).expand_as(x) for step in (one, two)]
    assert torch.equal(*found)


@each
@each_readout
@each_schedule
def test_a_right_prediction_costs_least(variance, readout, schedule):
    x_0 = torch.full((6, 1, 2, 2), 1 / 255)
    step, v = Transition.of(schedule, T, TO), torch.zeros(6, 1, 2, 2)
    right, wrong = (step_bits(step, variance, readout, x_0, Prediction(x_0 + d, v)) for d in (0.0, 0.3))
    # at t = 1 of an open schedule nothing is known of x_0, and nothing is asked
    assert right.shape == (6,) and right.isfinite().all() and wrong.isfinite().all()
    assert (right[2:] < wrong[2:]).all() and (right[:2] <= wrong[:2]).all()
    assert (right[TO > 0] >= 0).all()


@each
def test_the_loss_is_for_those_who_learn(variance):
    x_0, v = draw(6, 1, 2, 2), draw(6, 1, 2, 2, seed=1).requires_grad_()
    predicted = Prediction(x_0 + 0.1, v if variance.outputs == 2 else None)
    loss, metrics = variance.loss(SCHEDULES[0], x_0, T, predicted)
    assert loss.shape == (6,) and loss.isfinite().all()
    if variance.outputs == 1:
        assert (loss == 0).all() and not metrics
    else:
        loss.sum().backward()
        assert (v.grad != 0).all() and metrics


@each_readout
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_a_readout_is_finite_and_keeps_the_dtype(readout, dtype):
    x_0 = torch.tensor([[-1.0, 1 / 255, 1.0]], dtype=dtype).expand(5, 3)
    mean = torch.tensor([-5.0, -1.0, 0.0, 1.0, 5.0], dtype=dtype)[:, None]
    for log_variance in (-20.0, -5.0, 3.0):
        nats = readout(x_0, mean, torch.tensor(log_variance, dtype=dtype))
        assert nats.shape == (5, 3) and nats.dtype == dtype and nats.isfinite().all()

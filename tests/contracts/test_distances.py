"""What every registered distance must do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from calotype.condition import Condition
from calotype.diffusion import (
    Cosine,
    Denoiser,
    Distance,
    MultiScale,
    Objective,
    Schedule,
    UniformEpsilon,
    distances,
    parameterizations,
)
from calotype.registry import from_plain, to_plain

MEMBERS: list[Distance] = [*(distances[name]() for name in distances), MultiScale(8), MultiScale(8, normalised=False)]
each = pytest.mark.parametrize("distance", MEMBERS, ids=str)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@each
def test_survives_a_config_file(distance: Distance) -> None:
    assert from_plain(to_plain(distance)) == distance


@each
def test_one_number_per_sample_whatever_the_others(distance: Distance) -> None:
    d = draw(3, 2, 64, 32)
    distance.check(64, 32)
    both = distance(d)
    assert both.shape == (3,) and both.dtype == d.dtype and (both > 0).all()
    assert torch.allclose(both, torch.cat([distance(d[i : i + 1]) for i in range(3)]), rtol=1e-12)
    assert distance(d.float()).dtype == torch.float32


@each
def test_quadratic(distance: Distance) -> None:
    """What lets a weighting convert it: c^2 for c d, and the parallelogram law."""
    a, b = draw(3, 2, 32, 32), draw(3, 2, 32, 32).flip(0)
    assert torch.allclose(distance(-3 * a), 9 * distance(a), rtol=1e-12)
    assert torch.allclose(distance(a + b) + distance(a - b), 2 * distance(a) + 2 * distance(b), rtol=1e-12)
    assert torch.equal(distance(0 * a), torch.zeros(3, dtype=torch.float64))


@each
def test_every_error_costs_and_gets_gradient(distance: Distance) -> None:
    """Positive definite: one pixel alone is enough."""
    d = torch.zeros(1, 2, 32, 32, dtype=torch.float64)
    d[0, 1, 5, 7] = 1e-3
    d.requires_grad_()
    (g,) = torch.autograd.grad(distance(d).sum(), d)
    assert distance(d).item() > 0 and g[0, 1, 5, 7] > 0


@each
def test_the_loss_does_not_depend_on_what_the_network_predicts(distance: Distance) -> None:
    """It is the distance of the implied eps, whoever says it, and has the same gradient."""
    schedule = Schedule(Cosine())
    x_0, eps = draw(4, 2, 32, 32), draw(4, 2, 32, 32).flip(0, 3)
    t = torch.tensor([0.02, 0.3, 0.7, 0.98], dtype=torch.float64)
    alpha, sigma = (v.view(-1, 1, 1, 1) for v in schedule.at(t))
    x_t = schedule.perturb(x_0, eps, t)
    answer = draw(4, 2, 32, 32).flip(2).requires_grad_()
    expected = distance((x_t - alpha * answer) / sigma - eps)
    (slope,) = torch.autograd.grad(expected.sum(), answer)
    for name in parameterizations:
        p = parameterizations[name]()
        c_skip, c_out, _ = p.coefficients(alpha, sigma)
        said = (answer - c_skip * x_t) / c_out
        denoiser = Denoiser(lambda x, time, cond, said=said: said, schedule, p)
        loss, _ = Objective(UniformEpsilon(), distance=distance)(denoiser, x_0, Condition(), t, eps)
        assert torch.allclose(loss, expected, rtol=1e-9), name
        assert torch.allclose(torch.autograd.grad(loss.sum(), answer)[0], slope, rtol=1e-6, atol=1e-12), name

"""UniPC: exact where polynomials are, DPM-Solver++(2M) without its corrector."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import Cosine, DPMpp2M, GaussianMixture, Schedule, UniformGrid
from calotype.diffusion.samplers import UniPC
from calotype.diffusion.samplers.unipc import _moments, _Point
from calotype.errors import UserError

F64 = torch.float64
SCHEDULE, OPEN = Schedule(Cosine()), Schedule(Cosine(None, None))
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)
X = torch.tensor([[0.4], [-1.1]], dtype=F64)


@pytest.mark.parametrize("h", [0.05, 0.7, 6.0])
def test_the_moments_are_the_integrals(h):
    u = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000
    density = (h * (u - 1)).exp()
    expected = torch.stack([(density * u**i).sum() / density.sum() for i in (1, 2, 3)])
    assert torch.allclose(_moments(torch.tensor(h, dtype=F64), 3), expected, rtol=1e-9)


@pytest.mark.parametrize("schedule", [OPEN, SCHEDULE], ids=str)
def test_without_corrector_it_is_dpmpp2m(schedule):
    args = MIXTURE.denoise(schedule), X, UniformGrid()(schedule, 9), schedule, torch.zeros_like
    for a, b in zip(UniPC(corrector=False)(*args), DPMpp2M()(*args), strict=True):
        assert torch.allclose(a.x, b.x, rtol=1e-10)


@pytest.mark.parametrize("places", [(0.0, -0.7), (0.0, -0.7, -1.9), (0.0, -0.7, 1.0), (0.0, -0.7, -1.9, 1.0)])
@pytest.mark.parametrize("b", [1, 2])
def test_the_mean_is_exact_for_polynomials_through_its_points(places, b):
    """D = E[x_0(u)] for u in (0, 1) with density ~ e^(h u), by brute force; one point beside m_0 is the paper's 1/2."""
    h, start = 1.3, -0.4
    degree = len(places) - 1

    def x_0(u: torch.Tensor) -> torch.Tensor:
        return 0.3 - 0.5 * u + 0.2 * u**degree

    points = [_Point(torch.tensor(start + h * r, dtype=F64), x_0(torch.tensor(r, dtype=F64)) * X) for r in places]
    found = UniPC(b=b)._mean(points, torch.tensor(start + h, dtype=F64)) / X
    u = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000
    density = (h * (u - 1)).exp()
    exact = ((density * x_0(u)).sum() / density.sum()).expand(2, 1)
    slope = (x_0(torch.zeros(1)) - x_0(torch.tensor(-0.7))) / 0.7
    half = 0.5 if b == 2 else 0.5 * h / (1 - math.exp(-h))
    expected = exact if degree > 1 else (x_0(torch.zeros(1)) + half * slope).expand(2, 1)
    assert torch.allclose(found, expected.double(), rtol=1e-6)


@pytest.mark.parametrize("fields", [{"p": 4}, {"p": 0}, {"b": 3}])
def test_other_orders_are_refused(fields):
    with pytest.raises(UserError, match="UniPC has p in 1, 2, 3"):
        UniPC(**fields)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("b", [1, 2])
def test_a_thousand_steps_do_not_round_away(p, b):
    """Moments by recursion lose digits as h^3; the error stays that of the method."""
    times = torch.linspace(0.84, 0.2, 1001, dtype=F64)
    std = 0.5
    (a_t, s_t), (a_s, s_s) = SCHEDULE.at(times[0]), SCHEDULE.at(times[-1])
    start = math.sqrt(a_t**2 * std**2 + s_t**2)
    denoise = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), std).denoise(SCHEDULE)
    *_, last = UniPC(p, b)(denoise, torch.full((1, 1), start, dtype=F64), times, SCHEDULE, torch.zeros_like)
    limit = {1: 1e-5, 2: 1e-8, 3: 1e-8}[p]
    assert abs(last.x.item() - math.sqrt(a_s**2 * std**2 + s_s**2)) < limit

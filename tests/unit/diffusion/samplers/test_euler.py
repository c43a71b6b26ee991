"""Euler's method, which without churn is DDIM's step, and on the linear path the flow's."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from calotype.diffusion import DDIM, Cosine, GaussianMixture, Schedule, UniformGrid
from calotype.diffusion.curves.density import Flow
from calotype.diffusion.path import LinearPath
from calotype.diffusion.samplers import Churn, Euler
from calotype.rng import SampleNoise

F64 = torch.float64
FLOW = Schedule(Flow(), LinearPath())
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)
X = torch.tensor([[0.4], [-1.1]], dtype=F64)


@pytest.mark.parametrize("sampler", [Euler(), DDIM()], ids=str)
def test_on_the_linear_path_it_is_eulers_method_for_the_flow(sampler):
    """x_s = x_t + (s - t) u with u = eps - x_0 = (x_t - x_0) / t, from pure noise to the data."""
    denoise, times, x = MIXTURE.denoise(FLOW), UniformGrid()(FLOW, 9), X
    for (t, s), step in zip(pairwise(times), sampler(denoise, X, times, FLOW, torch.zeros_like), strict=True):
        x = x + (s - t) * (x - denoise(x, t.expand(2))) / t
        assert torch.allclose(step.x, x, rtol=1e-12, atol=1e-14)


def test_without_churn_it_is_ddim():
    schedule = Schedule(Cosine())
    args = MIXTURE.denoise(schedule), X, UniformGrid()(schedule, 9), schedule, torch.zeros_like
    assert all(torch.equal(a.x, b.x) for a, b in zip(Euler()(*args), DDIM()(*args), strict=True))


def test_churn_is_asked_for_at_the_later_time():
    schedule, asked = Schedule(Cosine()), []

    def denoise(x, t):
        asked.append(t[0])
        return MIXTURE.denoise(schedule)(x, t)

    times = torch.linspace(0.8, 0.2, 4, dtype=F64)
    [*_] = Euler(Churn(1.0))(denoise, X, times, schedule, SampleNoise([1, 2]))
    assert all(later > t for later, t in zip(asked, times[:-1], strict=True))

"""Heun against the pseudocode of its paper, and where that does not reach."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from calotype.diffusion import DDIM, Cosine, GaussianMixture, Karras, Schedule, UniformGrid
from calotype.diffusion.samplers import Churn, Heun
from calotype.rng import SampleNoise

F64 = torch.float64
OPEN = Schedule(Cosine(None, None))
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)
X = torch.tensor([[0.4], [-1.1]], dtype=F64)


def edm(denoise, x, sigmas, churn, low, high, louder, noise):
    """Karras et al. 2022, algorithm 2, in their letters; x at sigmas[0]."""
    n, out = len(sigmas) - 1, []
    for t, after in pairwise(sigmas.tolist()):
        gamma = min(churn / n, 2**0.5 - 1) if low <= t <= high else 0.0
        hat = t + gamma * t
        if gamma > 0:
            x = x + (hat**2 - t**2) ** 0.5 * louder * noise(x)
        d = (x - denoise(x, hat)) / hat
        euler = x + (after - hat) * d
        if after > 0:
            d_after = (euler - denoise(euler, after)) / after
            euler = x + (after - hat) * (d / 2 + d_after / 2)
        x = euler
        out.append(x)
    return out


@pytest.mark.parametrize("churn", [Churn(), Churn(4.0, low=0.05, high=50.0, noise=1.003)], ids=["plain", "churned"])
def test_it_is_algorithm_2(churn):
    """On a variance preserving path, with x = alpha times theirs."""
    exact, times = MIXTURE.denoise(OPEN), Karras()(OPEN, 12)
    alpha, sigma = OPEN.at(times)

    def theirs(y, sigma):
        a = (1 + sigma**2) ** -0.5
        t = OPEN.time(-2 * torch.tensor(sigma, dtype=F64).log())
        return exact(a * y, t.expand(len(y)))

    x = sigma[0] * X
    args = (churn.amount, churn.low, churn.high or float("inf"), churn.noise, SampleNoise([1, 2]))
    expected = edm(theirs, x / alpha[0], sigma / alpha, *args)
    steps = Heun(churn)(exact, x, times, OPEN, SampleNoise([1, 2]))
    for y, a, step in zip(expected, alpha[1:], steps, strict=True):
        assert torch.allclose(step.x, a * y, rtol=1e-9, atol=1e-12)


def test_from_no_signal_and_to_no_noise_it_is_ddim():
    times = UniformGrid()(OPEN, 6)
    args = MIXTURE.denoise(OPEN), X, times, OPEN, torch.zeros_like
    ours = [*Heun()(*args)]
    assert torch.allclose(ours[0].x, next(DDIM()(*args)).x, rtol=1e-12)
    (arrival,) = DDIM()(args[0], ours[-2].x, times[-2:], OPEN, torch.zeros_like)
    assert torch.allclose(ours[-1].x, arrival.x, rtol=1e-12)

"""PLMS: the combinations of its paper, and its two starts."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import DDIM, Cosine, GaussianMixture, Schedule, UniformGrid
from calotype.diffusion.samplers import PLMS

F64 = torch.float64
SCHEDULE, OPEN = Schedule(Cosine()), Schedule(Cosine(None, None))
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)
X = torch.tensor([[0.4], [-1.1]], dtype=F64)


def shown(t: torch.Tensor, c: tuple[float, ...]) -> torch.Tensor:
    """eps as a polynomial of t."""
    return sum(w * t**k for k, w in enumerate(c)) + torch.zeros(1, 1, dtype=F64)


def walk(sampler: PLMS, schedule: Schedule, times: torch.Tensor, c: tuple[float, ...]):
    """A denoiser whose eps depends on the time alone, so that every slope is known."""
    asked: list[float] = []

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(t[0].item())
        alpha, sigma = schedule.at(t[0])
        return (x - sigma * shown(t[0], c)) / alpha

    return [*sampler(denoise, torch.ones(1, 1, dtype=F64), times, schedule, torch.zeros_like)], asked


@pytest.mark.parametrize(
    ("runge_kutta", "exact"),
    [(True, (4, 4, 4, 4, 4, 4)), (False, (2, 2, 3, 4, 4, 4))],
)
def test_the_slope_is_the_mean_of_a_polynomial_over_the_step(runge_kutta, exact):
    """Adams-Bashforth with k slopes integrates degree k - 1 exactly in equal steps, Runge-Kutta (Simpson) degree 3."""
    times = torch.linspace(0.9, 0.3, 7, dtype=F64)
    for degree in range(4):
        c = (0.3,) + (0.0,) * (degree - 1) + (1.7,) * (degree > 0)
        steps, _ = walk(PLMS(runge_kutta), SCHEDULE, times, c)
        y = torch.ones(1, 1, dtype=F64) / SCHEDULE.at(times[0])[0]
        for i, step in enumerate(steps):
            (a_t, s_t), (a_s, s_s) = SCHEDULE.at(times[i]), SCHEDULE.at(times[i + 1])
            slope = (step.x / a_s - y) / (s_s / a_s - s_t / a_t)
            ends = [sum(w * t ** (k + 1) / (k + 1) for k, w in enumerate(c)) for t in times[i : i + 2]]
            mean = (ends[1] - ends[0]) / (times[i + 1] - times[i])
            assert torch.allclose(slope, mean.view(1, 1), rtol=1e-9) == (degree < exact[i]), (degree, i)
            y = step.x / a_s


@pytest.mark.parametrize(("runge_kutta", "calls"), [(True, 4 * 3 + 3), (False, 2 + 5)])
def test_where_it_looks(runge_kutta, calls):
    times = torch.linspace(0.9, 0.3, 7, dtype=F64)
    _, asked = walk(PLMS(runge_kutta), SCHEDULE, times, (0.5,))
    assert len(asked) == calls
    first = [0.9, 0.85, 0.85, 0.8] if runge_kutta else [0.9, 0.8]
    assert asked[: len(first)] == pytest.approx(first)


@pytest.mark.parametrize("runge_kutta", [True, False])
def test_from_no_signal_it_is_ddim_and_it_never_looks_at_no_noise(runge_kutta):
    asked: list[float] = []

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(t[0].item())
        return MIXTURE.denoise(OPEN)(x, t)

    for n in (1, 2, 3, 6):
        args = denoise, X, UniformGrid()(OPEN, n), OPEN, torch.zeros_like
        steps = [*PLMS(runge_kutta)(*args)]
        assert torch.allclose(steps[0].x, next(DDIM()(*args)).x, rtol=1e-12)
    assert min(asked) > 0

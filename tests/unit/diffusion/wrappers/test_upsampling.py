"""Upsample guidance against the paper's form, and against data for which it has nothing to do."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from calotype.diffusion import Cosine, GaussianMixture, Linear, Schedule
from calotype.diffusion.path import LinearPath, VarianceExploding
from calotype.diffusion.schedule import rows
from calotype.diffusion.wrappers import shrunk, upsample
from calotype.errors import UserError

F64 = torch.float64
SCHEDULES = [Schedule(Cosine()), Schedule(Linear())]
OTHER_PATHS = [Schedule(Cosine(), LinearPath()), Schedule(Cosine(), VarianceExploding())]
TIMES = torch.tensor([0.3, 0.6, 0.9], dtype=F64)


def draw(*shape: int, seed: int = 0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def large(x, t):
    """Any denoiser."""
    return torch.tanh(x) * rows(1 - t / 2, x)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("factor", [2, 4])
def test_is_the_papers_form(schedule, factor):
    """eps + Up[eps(D[x] / sqrt(P), tau) / m - D[eps]],  P = abar + (1 - abar) / m^2,  SNR(tau) = m^2 SNR(t)."""
    x = draw(3, 2, 8, 8)
    alpha, sigma = (rows(v, x) for v in schedule.at(TIMES))
    tau = schedule.time(schedule.logsnr(TIMES) + torch.tensor(factor**2, dtype=F64).log())
    alpha_tau, sigma_tau = (rows(v, x) for v in schedule.at(tau))
    p = alpha**2 + (1 - alpha**2) / factor**2
    small = F.avg_pool2d(x, factor) / p.sqrt()
    eps_small = (small - alpha_tau * large(small, tau)) / sigma_tau
    eps = (x - alpha * large(x, TIMES)) / sigma
    u = F.interpolate(eps_small / factor - F.avg_pool2d(eps, factor), scale_factor=factor, mode="nearest")
    expected = (x - sigma * (eps + 0.8 * u)) / alpha
    guided = upsample(large, schedule, factor, scale=0.8, share=1.0)(x, TIMES)
    assert torch.allclose(guided, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES + OTHER_PATHS, ids=str)
def test_what_is_right_already_stays(schedule):
    """White Gaussian data N(m, s^2), seen small N(D m, (s / 2)^2): both exact denoisers agree on the average."""
    m, x = draw(2, 8, 8, seed=1), draw(3, 2, 8, 8)
    exact = GaussianMixture.gaussian(m, 0.7).denoise(schedule)
    small = GaussianMixture.gaussian(F.avg_pool2d(m[None], 2)[0], 0.35).denoise(schedule)
    guided = upsample(exact, schedule, 2, small=small, share=1.0)
    assert torch.allclose(guided(x, TIMES), exact(x, TIMES), rtol=0, atol=1e-10)


def test_the_average_becomes_the_small_prediction():
    schedule, x = SCHEDULES[0], draw(3, 2, 8, 8)
    small = large(*shrunk(x, TIMES, schedule, 2))
    assert torch.allclose(F.avg_pool2d(upsample(large, schedule, 2, share=1.0)(x, TIMES), 2), small, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES + OTHER_PATHS, ids=str)
def test_a_shrunk_sample_is_one_of_the_same_process(schedule):
    eps, t = draw(1, 64, 64, 64), torch.tensor([0.6], dtype=F64)
    sigma = float(schedule.at(t)[1])
    noise, tau = shrunk(sigma * eps, t, schedule, 2)
    signal, _ = shrunk(torch.full_like(eps, float(schedule.at(t)[0])), t, schedule, 2)
    alpha_tau, sigma_tau = schedule.at(tau)
    assert torch.allclose(signal, alpha_tau.view(1, 1, 1, 1).expand_as(signal), rtol=1e-9)
    assert noise.std().item() == pytest.approx(float(sigma_tau), rel=0.01)


def test_acts_only_early_and_per_sample():
    schedule, x = SCHEDULES[0], draw(3, 2, 8, 8)
    guided, whole = (upsample(large, schedule, 2, share=share)(x, TIMES) for share in (0.5, 1.0))
    plain = large(x, TIMES)
    assert torch.equal(guided[:1], plain[:1]) and torch.equal(guided[1:], whole[1:])
    assert not torch.allclose(guided[1:], plain[1:])
    assert upsample(large, schedule, 1) is large


def test_is_finite_at_the_ends():
    x, ends = draw(2, 2, 8, 8), torch.tensor([0.0, 1.0], dtype=F64)
    for schedule in (*SCHEDULES, Schedule(Cosine(None, None))):
        assert upsample(large, schedule, 2, share=1.0)(x, ends).isfinite().all()


def test_mistakes_are_explained():
    with pytest.raises(UserError, match="a factor >= 1"):
        upsample(large, SCHEDULES[0], 0)
    with pytest.raises(UserError, match="must be finite"):
        upsample(large, SCHEDULES[0], 2, scale=float("inf"))
    with pytest.raises(UserError, match=r"multiples of it, got \(9, 8\)"):
        upsample(large, SCHEDULES[0], 2)(draw(1, 2, 9, 8), torch.ones(1, dtype=F64))

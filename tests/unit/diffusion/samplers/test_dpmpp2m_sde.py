"""SDE-DPM-Solver++(2M) beyond what every sampler must do."""

from __future__ import annotations

import torch

from calotype.diffusion import DDIM, Cosine, GaussianMixture, Schedule
from calotype.diffusion.samplers import DPMpp2MSDE
from calotype.rng import SampleNoise

F64 = torch.float64
SCHEDULE = Schedule(Cosine())
GAUSSIAN = GaussianMixture.gaussian(torch.tensor([0.3], dtype=F64), 0.5)
X = torch.tensor([[0.4], [-1.1]], dtype=F64)


def test_one_step_is_the_formula():
    """As the paper has it, in h; the first step takes D = x_0."""
    times = torch.tensor([0.9, 0.6, 0.4], dtype=F64)
    first, second = DPMpp2MSDE()(GAUSSIAN.denoise(SCHEDULE), X, times, SCHEDULE, SampleNoise([1, 2]))
    draws = SampleNoise([1, 2])
    xis = [draws(X), draws(X)]
    (_, s_0), (a_1, s_1), (a_2, s_2) = (SCHEDULE.at(t) for t in times)
    h_1, h_2 = (SCHEDULE.logsnr(times).diff() / 2).tolist()
    e_1, e_2 = (torch.tensor(-h, dtype=F64).exp() for h in (h_1, h_2))
    x = s_1 / s_0 * e_1 * X + a_1 * (1 - e_1**2) * first.x_0 + s_1 * (1 - e_1**2).sqrt() * xis[0]
    assert torch.allclose(first.x, x, rtol=1e-12)
    d = first.x_0 + (1 + h_2 / (2 * h_1)) * (second.x_0 - first.x_0)
    x = s_2 / s_1 * e_2 * x + a_2 * (1 - e_2**2) * d + s_2 * (1 - e_2**2).sqrt() * xis[1]
    assert torch.allclose(second.x, x, rtol=1e-12)


def test_errs_less_than_ancestral_sampling():
    """Both are of first order in the variance of their samples; the exact one is that of the data at t = 0.2."""
    times = torch.linspace(0.9, 0.2, 41, dtype=F64)
    (a_t, s_t), (a_s, s_s) = SCHEDULE.at(times[0]), SCHEDULE.at(times[-1])
    errors = []
    for sampler in (DPMpp2MSDE(), DDIM(eta=1.0)):
        unit = torch.eye(41, dtype=F64)[:, :, None]
        x, draws = (a_t**2 / 4 + s_t**2).sqrt() * unit[0], iter(unit[1:])
        centred = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), 0.5).denoise(SCHEDULE)
        *_, last = sampler(centred, x, times, SCHEDULE, lambda x, draws=draws: next(draws))
        errors.append((last.x.square().sum() - (a_s**2 / 4 + s_s**2)).abs())
    assert errors[0] < errors[1] / 2

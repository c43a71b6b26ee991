"""Energy guidance against posteriors in closed form, and against finite differences through a decoder."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from calotype.condition import Condition
from calotype.diffusion import X0, ClassifierFree, Cosine, Denoiser, GaussianMixture, Linear, Schedule
from calotype.diffusion.path import LinearPath, VarianceExploding
from calotype.diffusion.schedule import rows
from calotype.diffusion.variance import LearnedRange, predictor
from calotype.diffusion.wrappers import closeness, energy, likeness, posterior_std
from calotype.errors import UserError

F64 = torch.float64
SCHEDULES = [Schedule(Cosine()), Schedule(Linear())]
OTHER_PATHS = [Schedule(Cosine(), LinearPath()), Schedule(Cosine(), VarianceExploding())]
TIMES = torch.tensor([0.01, 0.3, 0.6, 0.9, 0.99], dtype=F64)


def draw(*shape: int, seed: int = 0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


M, S = draw(2, 4, 4, seed=1), 0.7


def mean_and_variance(schedule, x, t):
    alpha, sigma = (rows(v, x) for v in schedule.at(t))
    total = alpha**2 * S**2 + sigma**2
    return M + alpha * S**2 / total * (x - alpha * M), S**2 * sigma**2 / total


@pytest.mark.parametrize("schedule", SCHEDULES + OTHER_PATHS, ids=str)
def test_a_linear_energy_is_exact_for_gaussian_data(schedule):
    """p(x_0) exp(c x_0) is N(m + s^2 c, s^2): its denoiser, that of the tilted data, in closed form."""
    c, x = draw(2, 4, 4, seed=2), draw(5, 2, 4, 4)
    plain = GaussianMixture.gaussian(M, S).denoise(schedule)
    guided = energy(plain, schedule, lambda x_0, t: (c * x_0).flatten(1).sum(1))
    tilted = GaussianMixture.gaussian(M + S**2 * c, S).denoise(schedule)
    assert torch.allclose(guided(x, TIMES), tilted(x, TIMES), rtol=0, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES + OTHER_PATHS, ids=str)
@pytest.mark.parametrize("seen", [0.0, 0.5])
def test_an_observation_is_exact_for_gaussian_data(schedule, seen):
    """y = A x_0 + seen * noise with A two rows of an orthonormal matrix: x_0 | x_t, y is Gaussian."""
    a = torch.linalg.qr(draw(32, 32, seed=3)).Q[:2]
    y, x = draw(1, 2, seed=4), draw(5, 2, 4, 4)
    plain = GaussianMixture.gaussian(M, S).denoise(schedule)
    score = likeness(y, lambda x_0: x_0.flatten(1) @ a.T, posterior_std(schedule, seen, S))
    mean, v = mean_and_variance(schedule, x, TIMES)
    gain = v.flatten(1) / (v.flatten(1) + seen**2)
    expected = mean.flatten(1) + gain * ((y - mean.flatten(1) @ a.T) @ a)
    assert torch.allclose(energy(plain, schedule, score)(x, TIMES), expected.view_as(x), rtol=0, atol=1e-9)


def test_a_constant_std_is_the_rule_of_the_paper():
    """LDM, appendix C: eps - sigma grad_x_t(-1/2 |y - T(x_0)|^2), with grad by hand for a linear denoiser."""
    schedule, x, y = SCHEDULES[0], draw(5, 2, 4, 4), draw(5, 2, 2, 2, seed=5)
    plain = GaussianMixture.gaussian(M, S).denoise(schedule)
    x_0, _ = mean_and_variance(schedule, x, TIMES)
    alpha, sigma = (rows(v, x) for v in schedule.at(TIMES))
    slope = alpha * S**2 / (alpha**2 * S**2 + sigma**2)
    g = slope * F.interpolate((y - F.avg_pool2d(x_0, 2)) / 4, scale_factor=2, mode="nearest")
    eps = (x - alpha * x_0) / sigma - sigma * g
    guided = energy(plain, schedule, likeness(y, lambda x_0: F.avg_pool2d(x_0, 2)))(x, TIMES)
    assert torch.allclose(guided, (x - sigma * eps) / alpha, rtol=1e-9, atol=1e-12)


def test_gradients_go_through_denoiser_and_decoder():
    torch.manual_seed(0)
    schedule, t = SCHEDULES[0], torch.tensor([0.2, 0.7], dtype=F64)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(4, 2, 1)
    ).double()
    decoder = torch.nn.Sequential(torch.nn.ConvTranspose2d(2, 3, 2, stride=2), torch.nn.Tanh()).double()
    y, x = draw(2, 3, 8, 8, seed=6), draw(2, 2, 4, 4)
    score = closeness(y, lambda a, b: (a - b).abs().mean((1, 2, 3), keepdim=True), decoder)

    def plain(x, t):
        return network(x)

    with torch.no_grad():
        moved = energy(plain, schedule, score, 2.0)(x, t) - plain(x, t)
    alpha, sigma = schedule.at(t)
    for i, c, r, k in ((0, 0, 0, 0), (0, 1, 3, 1), (1, 1, 1, 2), (1, 0, 2, 0)):
        h = torch.zeros_like(x)
        h[i, c, r, k] = 1e-6
        slope = (score(plain(x + h, t), t) - score(plain(x - h, t), t))[i] / 2e-6
        expected = 2 * sigma[i] ** 2 / alpha[i] * slope
        assert moved[i, c, r, k].item() == pytest.approx(float(expected.detach()), rel=1e-4, abs=1e-8)


def test_composes_with_classifier_free_guidance():
    """Guided Gaussians are a Gaussian of another mean, which a linear energy moves by the same s^2 c."""
    schedule, x, c = SCHEDULES[0], draw(5, 2, 4, 4), draw(2, 4, 4, seed=2)
    exact = {k: GaussianMixture.gaussian(k * M, S).denoise(schedule) for k in (0.0, 1.0, 3.0)}

    def network(x, time, cond):
        t = time.double() / 1000
        return torch.where(rows(cond.vector[:, 0], x) > 0.5, exact[1.0](x, t), exact[0.0](x, t))

    cond, null = (Condition(vector=torch.full((5, 1), v)) for v in (1.0, 0.0))
    t = (TIMES * 1024).round() / 1024  # so that 1000 t is exact in float32
    guided = ClassifierFree(3.0)(Denoiser(network, schedule, X0()), cond, null)
    both = energy(guided, schedule, lambda x_0, t: (c * x_0).flatten(1).sum(1))
    expected = GaussianMixture.gaussian(3 * M + S**2 * c, S).denoise(schedule)
    assert torch.allclose(both(x, t), expected(x, t), rtol=0, atol=1e-5)


def test_a_learned_variance_passes_through_and_no_graph_stays():
    denoiser = Denoiser(lambda x, time, cond: torch.cat([x / 2, x], 1), SCHEDULES[0], X0(), variance=LearnedRange())
    x, t = draw(2, 1, 4, 4), torch.tensor([0.3, 0.8], dtype=F64)
    guided = energy(denoiser.bind(Condition()), SCHEDULES[0], lambda x_0, t: x_0.flatten(1).sum(1))
    x_0, v = predictor(guided)(x, t)
    assert torch.equal(v, x) and not v.requires_grad and not x_0.requires_grad


def test_scale_zero_costs_nothing():
    plain = GaussianMixture.gaussian(M, S).denoise(SCHEDULES[0])
    assert energy(plain, SCHEDULES[0], lambda x_0, t: x_0.flatten(1).sum(1), 0.0) is plain


def test_mistakes_are_explained():
    plain = GaussianMixture.gaussian(M, S).denoise(SCHEDULES[0])
    x = draw(5, 2, 4, 4)
    with pytest.raises(UserError, match="must be finite"):
        energy(plain, SCHEDULES[0], lambda x_0, t: x_0.sum(1), float("nan"))
    with pytest.raises(ValueError, match="std must be positive"):
        likeness(x, std=0.0)
    with pytest.raises(ValueError, match=r"the target is \(3, 2, 4, 4\), but what is measured is \(5, 2, 4, 4\)"):
        energy(plain, SCHEDULES[0], likeness(x[:3]))(x, TIMES)
    with pytest.raises(ValueError, match="no gradient"):
        energy(plain, SCHEDULES[0], lambda x_0, t: x_0.detach().flatten(1).sum(1))(x, TIMES)

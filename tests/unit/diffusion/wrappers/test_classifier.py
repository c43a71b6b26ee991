"""Classifier guidance against posteriors in closed form."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import DDPM, Cosine, GaussianMixture, Linear, Schedule, UniformGrid, samplers
from calotype.diffusion.classifier import Classifier
from calotype.diffusion.path import LinearPath, VarianceExploding
from calotype.diffusion.schedule import rows
from calotype.diffusion.wrappers import classifier
from calotype.errors import UserError
from calotype.rng import SampleNoise

F64 = torch.float64
SCHEDULES = [Schedule(Cosine()), Schedule(Linear()), Schedule(Cosine(None, None))]
SCHEDULES += [Schedule(Cosine(), LinearPath()), Schedule(Cosine(), VarianceExploding())]
TIMES = torch.tensor([0.01, 0.3, 0.6, 0.9, 0.99], dtype=F64)
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0, 0.3], [0.8, -0.2]], dtype=F64),
    torch.tensor([0.5, 0.3], dtype=F64),
    torch.tensor([0.4, 0.6], dtype=F64),
)
CLASS = GaussianMixture(MIXTURE.means[1:], MIXTURE.stds[1:], torch.ones(1, dtype=F64))


def draw(*shape: int, seed: int = 0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def of_class(schedule, k=1):
    """The exact log p(y = k | x_t) of the mixture."""

    def log_prob(x, t):
        alpha, sigma = (v[:, None] for v in schedule.at(t))
        variance = alpha**2 * MIXTURE.stds**2 + sigma**2
        away = (x[:, None] - alpha[..., None] * MIXTURE.means).square().sum(2)
        joint = MIXTURE.weights.log() - away / (2 * variance) - x.shape[1] / 2 * variance.log()
        return joint.log_softmax(1)[:, k]

    return log_prob


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_a_linear_gaussian_classifier_has_a_closed_form(schedule, scale):
    """Data N(m, s^2 I), p(y | x_0) ~ exp(w x_0): then p(y | x_t) ~ exp(w E[x_0 | x_t]), and given y to the power of
    the scale x_0 ~ N(E[x_0 | x_t] + scale v w, v) with v = Var[x_0 | x_t]."""
    m, s, w = draw(4, 3, 3, seed=1), 0.7, draw(4, 3, 3, seed=2)
    exact = GaussianMixture.gaussian(m, s).denoise(schedule)
    guided = classifier(exact, schedule, lambda x, t: (w * exact(x, t)).flatten(1).sum(1), scale)
    x = draw(5, 4, 3, 3)
    alpha, sigma = (rows(v, x) for v in schedule.at(TIMES))
    v = s**2 * sigma**2 / (alpha**2 * s**2 + sigma**2)
    mean = m + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * m)
    assert torch.allclose(guided(x, TIMES), mean + scale * v * w, rtol=0, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_an_exact_classifier_turns_the_mixture_into_its_class(schedule):
    x = draw(5, 2)
    guided = classifier(MIXTURE.denoise(schedule), schedule, of_class(schedule))
    assert torch.allclose(guided(x, TIMES), CLASS.denoise(schedule)(x, TIMES), rtol=0, atol=1e-9)


def test_its_scale_means_what_that_of_classifier_free_guidance_does():
    """grad log p(y | x_t) is the difference of the scores that the other one extrapolates."""
    schedule, x = SCHEDULES[0], draw(5, 2)
    null, cond = (m.denoise(schedule)(x, TIMES) for m in (MIXTURE, CLASS))
    guided = classifier(MIXTURE.denoise(schedule), schedule, of_class(schedule), 5.0)(x, TIMES)
    assert torch.allclose(guided, null + 5 * (cond - null), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", [*samplers])
def test_every_sampler_walks_as_if_the_data_were_the_class_alone(name):
    schedule, x = SCHEDULES[0], draw(3, 2)
    times = UniformGrid()(schedule, 6)
    walks = [
        [*samplers[name]()(denoise, x, times, schedule, SampleNoise([1, 2, 3]))][-1].x
        for denoise in (
            classifier(MIXTURE.denoise(schedule), schedule, of_class(schedule)),
            CLASS.denoise(schedule),
        )
    ]
    assert torch.allclose(*walks, rtol=0, atol=1e-7)


def test_eps_moves_by_sigma_times_the_gradient():
    """The form of Dhariwal & Nichol, algorithm 2: eps_hat = eps - s sqrt(1 - abar) grad, with the gradient by hand."""
    schedule, x = SCHEDULES[0], draw(5, 2)
    alpha, sigma = (rows(v, x) for v in schedule.at(TIMES))
    plain = MIXTURE.denoise(schedule)
    g = -2 * x  # of -|x|^2
    eps = (x - alpha * plain(x, TIMES)) / sigma - 3 * (1 - alpha**2).sqrt() * g
    guided = classifier(plain, schedule, lambda x, t: -x.square().sum(1), 3.0)(x, TIMES)
    assert torch.allclose(guided, (x - sigma * eps) / alpha, rtol=1e-9)


def test_an_ancestral_step_moves_its_mean_by_the_variance_times_the_gradient():
    """Algorithm 1: mu + s Sigma g, with Sigma = beta_t, to first order: exactly beta_t g / sqrt(1 - beta_t)."""
    schedule, x, w = Schedule(Linear()), draw(2, 2), draw(2, 2, seed=3)
    times = torch.tensor([0.5, 0.499], dtype=F64)
    plain = MIXTURE.denoise(schedule)
    guided = classifier(plain, schedule, lambda x, t: (w * x).sum(1), 2.0)
    (a,), (b,) = ([*DDPM()(f, x, times, schedule, torch.zeros_like)] for f in (plain, guided))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (schedule.at(t) for t in times)
    beta = sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
    assert beta == pytest.approx(float(1 - (alpha_t / alpha_s) ** 2), rel=1e-9)
    assert torch.allclose(b.x - a.x, 2 * beta * w / (1 - beta).sqrt(), rtol=1e-8)


def test_the_gradient_of_a_network_is_that_of_finite_differences():
    torch.manual_seed(0)
    schedule = SCHEDULES[0]
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Flatten(1))
    network.append(torch.nn.Linear(4 * 9, 5)).double()
    log_prob = Classifier(lambda x, time: network(x), schedule).log_prob(torch.tensor([3, 0]))
    x, t = draw(2, 2, 3, 3), torch.tensor([0.3, 0.8], dtype=F64)
    plain = GaussianMixture.gaussian(torch.zeros(2, 3, 3, dtype=F64), 0.7).denoise(schedule)
    with torch.no_grad():
        moved = classifier(plain, schedule, log_prob, 1.5)(x, t) - plain(x, t)
    alpha, sigma = schedule.at(t)
    for i, c, r, k in ((0, 0, 0, 0), (0, 1, 2, 1), (1, 1, 1, 1), (1, 0, 2, 0)):
        h = torch.zeros_like(x)
        h[i, c, r, k] = 1e-5
        slope = (log_prob(x + h, t) - log_prob(x - h, t)).detach()[i] / 2e-5
        assert moved[i, c, r, k].item() == pytest.approx(float(1.5 * sigma[i] ** 2 / alpha[i] * slope), rel=1e-6)


def test_gradients_stay_inside():
    schedule, x, t = SCHEDULES[0], draw(2, 2).requires_grad_(), torch.tensor([0.3, 0.8], dtype=F64)
    with torch.no_grad():
        x_0 = classifier(MIXTURE.denoise(schedule), schedule, of_class(schedule))(x, t)
        assert not torch.is_grad_enabled() and not x_0.requires_grad


def test_where_nothing_is_left_of_the_data_nothing_is_moved():
    schedule, x, t = SCHEDULES[2], draw(1, 2), torch.ones(1, dtype=F64)
    plain = MIXTURE.denoise(schedule)
    assert schedule.at(t)[0] == 0
    assert torch.equal(classifier(plain, schedule, lambda x, t: x.sum(1), 5.0)(x, t), plain(x, t))


def test_half_precision_samples_are_judged_in_single_precision():
    schedule, seen = SCHEDULES[0], []

    def log_prob(x, t):
        seen.append(x.dtype)
        return x.sum(1)

    x = draw(1, 2).bfloat16()
    classifier(lambda x, t: x.float(), schedule, log_prob)(x, torch.tensor([0.5]))
    assert seen == [torch.float32]


def test_scale_zero_costs_nothing():
    plain = MIXTURE.denoise(SCHEDULES[0])
    assert classifier(plain, SCHEDULES[0], of_class(SCHEDULES[0]), 0.0) is plain


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf")])
def test_a_scale_that_is_not_finite_is_refused(scale):
    with pytest.raises(UserError, match="must be finite"):
        classifier(lambda x, t: x, SCHEDULES[0], of_class(SCHEDULES[0]), scale)


def test_a_log_likelihood_without_gradient_or_of_another_shape_is_explained():
    x, t = draw(2, 2), torch.tensor([0.3, 0.8], dtype=F64)
    with pytest.raises(ValueError, match="no gradient; compute it without no_grad"):
        classifier(lambda x, t: x, SCHEDULES[0], lambda x, t: x.detach().sum(1))(x, t)
    with pytest.raises(ValueError, match=r"one log-likelihood per sample, \(2,\), got \(\)"):
        classifier(lambda x, t: x, SCHEDULES[0], lambda x, t: x.sum())(x, t)

"""The reverse chain's steps against Bayes' rule and brute force."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from calotype.condition import Condition
from calotype.diffusion import (
    DDPM,
    X0,
    Cosine,
    Denoiser,
    GaussianMixture,
    Linear,
    LinearPath,
    Objective,
    Schedule,
    UniformEpsilon,
    VarianceExploding,
    Velocity,
)
from calotype.diffusion.readout import Discretized, Gaussian
from calotype.diffusion.variance import (
    FixedLarge,
    FixedSmall,
    LearnedRange,
    PosteriorVariance,
    Prediction,
    Transition,
    gaussian_kl,
    predictor,
    step_bits,
)
from calotype.errors import UserError

F64 = torch.float64
NOTHING = Condition()


SCHEDULES = [
    Schedule(Cosine()),
    Schedule(Linear()),
    Schedule(Cosine(), LinearPath()),
    Schedule(Cosine(None, None)),
    Schedule(Cosine(-6.0, 15.0), VarianceExploding()),
]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# ------------------------------------------------------------------------------------------------------------ the step


@each_schedule
@pytest.mark.parametrize("interval", [(0.3, 0.29), (0.9, 0.2), (1.0, 0.99), (1.0, 0.5)], ids=str)
def test_the_posterior_is_bayes_rule(schedule, interval):
    """q(x_s | x_t, x_0) ~ q(x_s | x_0) q(x_t | x_s), on a grid of x_s."""
    t, s = numbers(interval[0]), numbers(interval[1])
    (a_t, s_t), (a_s, s_s) = schedule.at(t), schedule.at(s)
    x_0, x_t = 0.7, 0.4
    x_s = torch.linspace(-20, 20, 200_001, dtype=F64) * s_s
    r = a_t / a_s
    b = s_t**2 - r**2 * s_s**2
    log_density = -((x_s - a_s * x_0) ** 2) / (2 * s_s**2) - (x_t - r * x_s) ** 2 / (2 * b)
    p = log_density.softmax(0)
    mean = (p * x_s).sum()
    step = Transition.of(schedule, t, s)
    assert step.mean(numbers(x_t), numbers(x_0)).item() == pytest.approx(mean.item(), abs=1e-9)
    assert step.log_small.exp().item() == pytest.approx((p * (x_s - mean) ** 2).sum().item(), rel=1e-8)
    assert step.log_large.exp().item() == pytest.approx(b.item(), rel=1e-8)
    assert not step.arrives


def test_a_table_gives_the_formulas_of_ddpm():
    betas = Linear().betas()
    abar = (1 - betas).cumprod(0)
    before = torch.cat([abar.new_ones(1), abar[:-1]])
    t = (torch.arange(1000, dtype=F64) + 1) / 1000
    step = Transition.of(Schedule(Linear()), t, torch.cat([t.new_zeros(1), t[:-1]]))
    small = betas * (1 - before) / (1 - abar)
    assert torch.allclose(step.log_large, betas.log(), rtol=1e-9)
    assert torch.allclose(step.log_small[1:], small[1:].log(), rtol=1e-9)
    assert step.log_small[0].item() == pytest.approx(small[1].log().item(), rel=1e-9)  # "clipped": entry 1 for entry 0
    assert torch.allclose(step.c_0, before.sqrt() * betas / (1 - abar), rtol=1e-9)
    assert torch.allclose(step.c_x, (1 - betas).sqrt() * (1 - before) / (1 - abar), rtol=1e-9)
    assert step.arrives.tolist() == [True] + [False] * 999


@each_schedule
def test_on_arrival_only_the_prediction_counts(schedule):
    step = Transition.of(schedule, numbers(0.01, 0.6, 1.0), numbers(0, 0, 0))
    x_t, x_0 = draw(3, 2), draw(3, 2, seed=1)
    assert torch.equal(step.mean(x_t, x_0), x_0)
    assert step.log_small.isfinite().all() and step.log_large.isfinite().all() and step.arrives.all()


@pytest.mark.parametrize(("t", "s"), [(0.2, 0.2), (0.2, 0.3), (1.1, 0.3), (0.1, -0.1), (float("nan"), 0.1)])
def test_steps_go_towards_the_data(t, s):
    with pytest.raises(ValueError, match="0 <= s < t <= 1"):
        Transition.of(SCHEDULES[0], numbers(t), numbers(s))


# ----------------------------------------------------------------------------------------------------------- the terms


def test_the_kl_is_that_of_two_gaussians():
    m_1, m_2, v_1, v_2 = draw(4, 200)
    expected = kl_divergence(Normal(m_1, (v_1 / 2).exp()), Normal(m_2, (v_2 / 2).exp()))
    assert torch.allclose(gaussian_kl(m_1, v_1, m_2, v_2), expected, rtol=1e-12)


def test_the_kl_is_an_integral():
    x = torch.linspace(-30, 30, 200_001, dtype=F64)
    p, q = Normal(numbers(0.4), numbers(1.2)), Normal(numbers(-0.3), numbers(2.0))
    integral = (p.log_prob(x).exp() * (p.log_prob(x) - q.log_prob(x))).sum() * (x[1] - x[0])
    found = gaussian_kl(numbers(0.4), numbers(1.2).log() * 2, numbers(-0.3), numbers(2.0).log() * 2)
    assert found.item() == pytest.approx(integral.item(), rel=1e-10)


@each_schedule
@pytest.mark.parametrize("variance", [FixedSmall(), FixedLarge(), LearnedRange()], ids=str)
def test_a_term_is_the_kl_of_posterior_and_step(schedule, variance):
    """With x_t and both means written out, as DDPM's code has it."""
    t, s = numbers(0.2, 0.5, 0.9, 1.0), numbers(0.1, 0.499, 0.3, 0.98)
    x_0, found, eps = draw(3, 4, 2, 3, 3)
    v = draw(4, 2, 3, 3, seed=5).tanh()
    x_t = schedule.perturb(x_0, eps, t)
    (a_t, s_t), (a_s, s_s) = ((w.view(-1, 1, 1, 1) for w in schedule.at(u)) for u in (t, s))
    r = a_t / a_s
    b = s_t**2 - r**2 * s_s**2
    beta_tilde = b * s_s**2 / s_t**2

    def mean(x):
        return (r * s_s**2 * x_t + a_s * b * x) / s_t**2

    f = {FixedSmall: 0 * v, FixedLarge: 0 * v + 1, LearnedRange: (v + 1) / 2}[type(variance)]
    std = (b**f * beta_tilde ** (1 - f)).sqrt()
    expected = kl_divergence(Normal(mean(x_0), beta_tilde.sqrt().expand_as(x_0)), Normal(mean(found), std))
    bits = step_bits(Transition.of(schedule, t, s), variance, Gaussian(), x_0, Prediction(found, v))
    assert torch.allclose(bits, expected.mean((1, 2, 3)) / math.log(2), rtol=1e-8)


@each_schedule
def test_with_the_posterior_variance_a_term_is_a_step_in_snr(schedule):
    """1/2 (SNR(s) - SNR(t)) |x_0 - x_0_hat|^2: Kingma et al. 2021, eq. (13)."""
    t, s = numbers(0.2, 0.5, 0.9), numbers(0.1, 0.499, 0.3)
    x_0, found = draw(2, 3, 5)
    snr = schedule.logsnr(s).exp() - schedule.logsnr(t).exp()
    bits = step_bits(Transition.of(schedule, t, s), FixedSmall(), Gaussian(), x_0, Prediction(found))
    assert torch.allclose(bits, 0.5 * snr * (x_0 - found).square().mean(1) / math.log(2), rtol=1e-9)


@pytest.mark.parametrize("readout", [Gaussian(), Discretized()], ids=str)
def test_the_last_term_is_the_readout(readout):
    schedule, t = Schedule(Linear()), numbers(0.001, 0.5)
    x_0 = (draw(2, 6) * 40).round().clamp(-127, 127) / 127.5 + 1 / 255
    found = x_0 + 0.01 * draw(2, 6, seed=3)
    step = Transition.of(schedule, t, numbers(0.0, 0.4))
    bits = step_bits(step, FixedLarge(), readout, x_0, Prediction(found))
    expected = readout(x_0[:1], found[:1], step.log_small[0]).mean() / math.log(2)
    assert bits[0].item() == pytest.approx(expected.item(), rel=1e-12)
    both = step_bits(
        Transition.of(schedule, t[1:], numbers(0.4)), FixedLarge(), readout, x_0[1:], Prediction(found[1:])
    )
    assert bits[1].item() == pytest.approx(both.item(), rel=1e-12)


# --------------------------------------------------------------------------------------------------- the learned range


def test_the_ends_of_the_range_are_the_fixed_variances():
    step, x = Transition.of(Schedule(Linear()), numbers(0.3, 0.8), numbers(0.25, 0.7)), draw(2, 3)
    learned = LearnedRange()
    assert torch.allclose(learned.log_variance(step, x, -torch.ones(2, 3)), FixedSmall().log_variance(step, x, None))
    assert torch.allclose(learned.log_variance(step, x, torch.ones(2, 3)), FixedLarge().log_variance(step, x, None))


@pytest.mark.parametrize("std", [1e-3, 0.3, 1.0])
def test_the_best_v_is_the_variance_of_the_reverse_step(std):
    """For N(0, s^2) and the exact denoiser, x_s given x_t is Gaussian: its variance is the best, -1 for a point and 1
    for N(0, 1)."""
    schedule, n = Schedule(Cosine()), 40_000
    t, s = numbers(0.5), numbers(0.3)
    x_0, eps = std * draw(n, 1), draw(n, 1, seed=1)
    exact = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), std).denoise(schedule)
    found = exact(schedule.perturb(x_0, eps, t.expand(n)), t.expand(n))
    step = Transition.of(schedule, t, s)
    (a_t, s_t), (a_s, s_s) = schedule.at(t), schedule.at(s)
    joint = a_s * a_t * std**2 + a_t / a_s * s_s**2  # cov(x_s, x_t)
    true = a_s**2 * std**2 + s_s**2 - joint**2 / (a_t**2 * std**2 + s_t**2)
    expected = 2 * (true.log() - step.log_small) / (step.log_large - step.log_small) - 1
    tries = torch.linspace(-1.3, 1.3, 261, dtype=F64)
    cost = torch.stack(
        [step_bits(step, LearnedRange(), Gaussian(), x_0, Prediction(found, v.expand_as(x_0))).mean() for v in tries]
    )
    assert tries[cost.argmin()].item() == pytest.approx(expected.item(), abs=0.03)
    assert expected.item() == pytest.approx({1e-3: -1, 1.0: 1}.get(std, expected.item()), abs=1e-2)


class Knowing(PosteriorVariance):
    """The exact x_0 of N(0, s^2), and the v that makes every step of `times` the exact one."""

    def __init__(self, schedule, times, std):
        self.exact = GaussianMixture.gaussian(torch.zeros(1, dtype=F64), std).denoise(schedule)
        t, s = times[:-2], times[1:-1]
        (a_t, s_t), (a_s, s_s), step = schedule.at(t), schedule.at(s), Transition.of(schedule, t, s)
        joint = a_s * a_t * std**2 + a_t / a_s * s_s**2
        true = a_s**2 * std**2 + s_s**2 - joint**2 / (a_t**2 * std**2 + s_t**2)
        v = 2 * (true.log() - step.log_small) / (step.log_large - step.log_small) - 1
        self.v = dict(zip(t.tolist(), v.tolist(), strict=True))

    def __call__(self, x_t, t):
        return self.predict(x_t, t).x_0

    def predict(self, x_t, t):
        return Prediction(self.exact(x_t, t), torch.full_like(x_t, self.v.get(t[0].item(), 0.0)))


def test_few_steps_with_the_right_v_keep_the_variance():
    """Five steps of DDPM: exact with a learned variance, too narrow with the small one, too wide with the large."""
    schedule, std, n = Schedule(Cosine()), 0.3, 40_000
    times = numbers(1.0, 0.7, 0.4, 0.2, 0.01, 0.0)
    denoise, g = Knowing(schedule, times, std), torch.Generator().manual_seed(2)

    def spread(variance):
        x = draw(n, 1)
        for step in DDPM(variance)(
            denoise, x, times, schedule, lambda x: torch.randn(x.shape, generator=g, dtype=x.dtype)
        ):
            x = step.x
        return x.std().item()

    assert spread(LearnedRange()) == pytest.approx(std, rel=0.015)
    assert spread(FixedSmall()) < 0.95 * std and spread(FixedLarge()) > 1.2 * std


def test_the_loss_is_the_bound_and_reaches_v_alone():
    schedule, variance = Schedule(Linear()), LearnedRange(weight=0.002, steps=1000)
    t = numbers(0.001, 0.3, 1.0)
    x_0, found, v = draw(3, 3, 2, 4, 4)
    found.requires_grad_(), v.requires_grad_()
    loss, metrics = variance.loss(schedule, x_0, t, Prediction(found, v))
    step = Transition.of(schedule, t, t - 0.001)
    terms = 1000 * step_bits(step, variance, Gaussian(), x_0, Prediction(found, v))
    assert torch.allclose(loss, 0.002 * terms) and torch.allclose(metrics["vlb"], terms.mean())
    loss.sum().backward()
    assert found.grad is None and (v.grad != 0).all() and not metrics["vlb"].requires_grad


def test_between_the_entries_of_a_table_the_last_term_is_the_readout():
    loss, _ = LearnedRange(steps=100).loss(
        Schedule(Cosine()), torch.zeros(2, 3), numbers(1e-6, 0.005), Prediction(torch.zeros(2, 3), torch.zeros(2, 3))
    )
    assert loss.isfinite().all()


@pytest.mark.parametrize("fields", [{"weight": 0.0}, {"weight": -1.0}, {"weight": float("nan")}, {"steps": 1}])
def test_a_variance_that_would_not_be_learned_is_refused(fields):
    with pytest.raises(UserError, match="learned variance needs"):
        LearnedRange(**fields)


def test_a_missing_v_is_named():
    step = Transition.of(Schedule(Linear()), numbers(0.5), numbers(0.4))
    with pytest.raises(UserError, match="learned_range"):
        LearnedRange().log_variance(step, draw(1, 3), None)


# ------------------------------------------------------------------------------------------- in denoiser and objective


class Two(nn.Module):
    """F and v, each one linear function of x."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Conv2d(3, 3, 1)
        self.spread = nn.Conv2d(3, 3, 1)

    def forward(self, x, time, cond):
        return torch.cat([self.mean(x), self.spread(x)], 1)


def test_a_denoiser_reads_v_off_the_second_half():
    network = Two()
    denoiser = Denoiser(network, Schedule(Cosine()), X0(), variance=LearnedRange())
    x, t = torch.randn(2, 3, 4, 4), torch.tensor([0.2, 0.7])
    bound = denoiser.bind(NOTHING)
    assert isinstance(bound, PosteriorVariance)
    x_0, v = bound.predict(x, t)
    assert torch.allclose(x_0, network.mean(x)) and torch.allclose(v, network.spread(x))
    assert torch.equal(bound(x, t), x_0) and torch.equal(denoiser.raw(x, t, NOTHING), x_0)
    assert torch.equal(predictor(bound)(x, t).v, v)


def test_whoever_says_x_0_alone_has_no_v():
    x, t = torch.randn(2, 3, 4, 4), torch.tensor([0.2, 0.7])
    assert predictor(lambda x, t: 2 * x)(x, t).v is None
    fixed = Denoiser(lambda x, time, cond: x, Schedule(Cosine()), X0())
    assert predictor(fixed.bind(NOTHING))(x, t).v is None


@pytest.mark.parametrize(
    ("variance", "channels", "words"),
    [(LearnedRange(), 3, "2 times the latent's"), (FixedLarge(), 6, "to the latent's")],
)
def test_channels_and_variance_must_fit(variance, channels, words):
    denoiser = Denoiser(lambda x, time, cond: x[:, :1].repeat(1, channels, 1, 1), SCHEDULES[0], X0(), variance=variance)
    with pytest.raises(UserError, match=words):
        denoiser(torch.zeros(1, 3, 4, 4), torch.tensor([0.5]), NOTHING)


def test_the_hybrid_loss_is_the_simple_one_and_the_bound():
    """The mean learns from the simple loss alone, v from the bound alone: section 3.1 of Nichol & Dhariwal."""
    torch.manual_seed(0)
    network, schedule, objective = Two().double(), Schedule(Linear()), Objective(UniformEpsilon())
    x_0, eps, t = draw(4, 3, 4, 4), draw(4, 3, 4, 4, seed=1), numbers(0.001, 0.2, 0.6, 1.0)
    variance = LearnedRange()
    hybrid = Denoiser(network, schedule, Velocity(), variance=variance)
    simple = Denoiser(lambda x, time, cond: network(x, time, cond)[:, :3], schedule, Velocity())
    loss, metrics = objective(hybrid, x_0, NOTHING, t, eps)
    base, _ = objective(simple, x_0, NOTHING, t, eps)
    bound, _ = variance.loss(schedule, x_0, t, hybrid.predict(schedule.perturb(x_0, eps, t), t, NOTHING))
    assert torch.allclose(loss, base + bound, rtol=1e-9) and set(metrics) == {"error_x0", "vlb"}
    grads = []
    for value in (loss, base, bound):
        network.zero_grad()
        value.mean().backward()
        grads.append([None if p.grad is None else p.grad.clone() for p in (network.mean.weight, network.spread.weight)])
    (mean, spread), (mean_simple, _), (_, spread_bound) = grads
    assert torch.allclose(mean, mean_simple, rtol=1e-9) and torch.allclose(spread, spread_bound, rtol=1e-9)
    assert grads[1][1] is None or (grads[1][1] == 0).all()
    assert grads[2][0] is None or (grads[2][0] == 0).all()

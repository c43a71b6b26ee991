"""The variational bound of exact denoisers, where every expectation is known.

For x_0 = +-s and eps = +-1, all four pairs once, every mean of a quadratic is that of N(0, s^2) and N(0, 1), exactly.
So the bound's expectation for Gaussian data is found without any sampling, to the last digits of float64.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from calotype.diffusion import Cosine, GaussianMixture, Linear, LogSNRGrid, Schedule, UniformGrid
from calotype.diffusion.likelihood import Estimate, VariationalBound, continuous_bound, discrete_bound, prior_bits
from calotype.diffusion.readout import Discretized, Gaussian
from calotype.diffusion.variance import FixedLarge, FixedSmall
from calotype.errors import UserError
from calotype.rng import SampleNoise

F64 = torch.float64
LN2 = math.log(2)
S = 0.6
SCHEDULES = [Schedule(Cosine()), Schedule(Linear())]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)

PAIRS = torch.tensor([[S, S, -S, -S]], dtype=F64).T
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0], [0.8]], dtype=F64), torch.tensor([0.5, 0.3], dtype=F64), torch.tensor([0.4, 0.6], dtype=F64)
)


def signs(x):
    return torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=F64).T.expand_as(x)


def exact(schedule, std=S):
    return GaussianMixture.gaussian(torch.zeros(1, dtype=F64), std).denoise(schedule)


def mmse(snr):
    """E|x_0 - E[x_0 | x_t]|^2 of N(0, s^2)."""
    return S**2 / (1 + S**2 * snr)


def noise(seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=g, dtype=F64)


# ------------------------------------------------------------------------------------------------- the chain of T steps


@each_schedule
@pytest.mark.parametrize("steps", [2, 10, 200])
def test_every_term_of_a_gaussian_has_its_closed_form(schedule, steps):
    times = UniformGrid()(schedule, steps)
    bound = discrete_bound(exact(schedule), PAIRS, times, schedule, signs)
    snr = schedule.logsnr(times[:-1]).exp()
    assert torch.allclose(bound.errors.mean(0), mmse(snr[:-1]), rtol=1e-9)
    terms = 0.5 * (snr[1:] - snr[:-1]) * mmse(snr[:-1]) / LN2
    assert torch.allclose(bound.terms.mean(0), terms, rtol=1e-8)
    assert [e.mean for e in bound.per_time] == pytest.approx(terms.tolist(), rel=1e-8)
    assert bound.prior.mean().item() == pytest.approx(0.5 * snr[0].item() * S**2 / LN2, rel=1e-9)
    # the readout has the variance that the step before the last one would have
    r = (snr[-2] / snr[-1]).item()
    spread = (1 - r) * float(schedule.at(times[-2])[1]) ** 2
    readout = 0.5 * (math.log(2 * math.pi * spread) + mmse(snr[-1]).item() / spread) / LN2
    assert bound.readout.mean().item() == pytest.approx(readout, rel=1e-8)
    assert torch.equal(bound.edges, times[:-1])
    assert torch.allclose(bound.total, bound.prior + bound.terms.sum(1) + bound.readout)


def test_more_steps_come_nearer_to_the_entropy():
    """Between fixed ends the gap of a chain with fixed variance is of first order in the steps' length in log-SNR."""
    schedule, gaps = SCHEDULES[0], []
    entropy = 0.5 * math.log(2 * math.pi * math.e * S**2) / LN2
    for steps in (50, 100, 200):
        times = LogSNRGrid(0.02, 80)(schedule, steps)
        bound = discrete_bound(exact(schedule), PAIRS, times, schedule, signs, variance=FixedSmall())
        # with the readout at its best variance, what is left is the chain's own gap
        left = mmse(schedule.logsnr(times[-2]).exp()).item()
        gaps.append(bound.rate.mean().item() + 0.5 * math.log(2 * math.pi * math.e * left) / LN2 - entropy)
    for coarse, fine in pairwise(gaps):
        assert coarse / fine == pytest.approx(2, abs=0.25)
    assert 0 < gaps[-1] < 0.2


def test_a_wrong_denoiser_costs_more():
    schedule, times = SCHEDULES[1], UniformGrid()(SCHEDULES[1], 30)
    right = exact(schedule)
    bounds = [
        discrete_bound(lambda x, t, c=c: c * right(x, t), PAIRS, times, schedule, signs).rate.mean()
        for c in (1.0, 0.9, 0.5)
    ]
    assert bounds[0] < bounds[1] < bounds[2]


def test_the_large_variance_costs_more_for_a_point_and_less_for_noise():
    schedule, times = SCHEDULES[1], UniformGrid()(SCHEDULES[1], 20)
    for std, sign in ((1e-3, 1), (1.0, -1)):
        small, large = (
            discrete_bound(exact(schedule, std), PAIRS * std / S, times, schedule, signs, variance=v).rate.mean()
            for v in (FixedSmall(), FixedLarge())
        )
        assert sign * (large - small) > 0.1


@pytest.mark.parametrize("terms", [1, 7, 98, 99])
def test_some_of_the_terms_estimate_all_of_them(terms):
    schedule, times, n = SCHEDULES[0], UniformGrid()(SCHEDULES[0], 100), 20_000
    x_0 = S * noise(1)(torch.empty(n, 1))
    bound = discrete_bound(exact(schedule), x_0, times, schedule, noise(2), terms=terms)
    snr = schedule.logsnr(times[:-1]).exp()
    expected = (0.5 * (snr[1:] - snr[:-1]) * mmse(snr[:-1])).sum().item() / LN2
    found = Estimate.of(bound.terms.sum(1))
    assert abs(found.mean - expected) < 4 * found.error and found.error < 0.5
    assert bound.terms.shape == (n, terms) and len(bound.edges) == terms + 1
    assert bound.edges[0] == 1 and bound.edges[-1] == times[-2] and (bound.edges.diff() < 0).all()


def test_strata_are_less_noisy_than_single_terms():
    schedule, times, n = SCHEDULES[0], UniformGrid()(SCHEDULES[0], 100), 4000
    x_0 = S * noise(1)(torch.empty(n, 1))
    errors = [
        discrete_bound(exact(schedule), x_0, times, schedule, noise(2), terms=k).estimate.error for k in (1, 10, 99)
    ]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]


# --------------------------------------------------------------------------------------------- infinitely many steps


@each_schedule
def test_the_bound_of_a_gaussian_is_its_entropy(schedule):
    bound = continuous_bound(exact(schedule), PAIRS, schedule, signs, terms=512, t_min=1e-3)
    ends = schedule.logsnr(torch.tensor([1.0, 1e-3], dtype=F64)).exp()
    rate = 0.5 * torch.log2((1 + S**2 * ends[1]) / (1 + S**2 * ends[0])).item()
    assert bound.terms.sum(1).mean().item() == pytest.approx(rate, abs=2e-5)
    snr = ends[1].item()
    readout = 0.5 * (math.log(2 * math.pi / snr) + snr * mmse(snr)) / LN2
    assert bound.readout.mean().item() == pytest.approx(readout, rel=1e-9)
    entropy = 0.5 * math.log(2 * math.pi * math.e * S**2) / LN2
    # the prior's mismatch above, the readout's variance at t_min below: both vanish with SNR(1) and 1 / SNR(t_min)
    gap = bound.total.mean().item() - entropy
    assert -2e-5 < gap < (S**2 * ends[0] + (1 / (S**2 * snr)) ** 2).item() + 2e-5


@each_schedule
def test_the_integral_is_that_over_time_of_the_error_of_eps(schedule):
    """1/2 E_t[-logsnr' |eps - eps_hat|^2], by the trapezoid over t, for a denoiser that is not exact."""
    wrong = lambda x, t: 0.8 * exact(schedule)(x, t)  # noqa: E731
    bound = continuous_bound(wrong, PAIRS, schedule, signs, terms=400, t_min=0.05)
    t = torch.linspace(0.05, 1, 20_001, dtype=F64, requires_grad=True)
    logsnr = schedule.curve.logsnr(t)
    (slope,) = torch.autograd.grad(logsnr.sum(), t)
    t = t.detach()
    alpha, sigma = schedule.at(t)
    total = 0
    for x_0, eps in zip(PAIRS, signs(PAIRS), strict=True):
        x_t = (alpha * x_0 + sigma * eps)[:, None]
        eps_hat = (x_t - alpha[:, None] * wrong(x_t, t)) / sigma[:, None]
        total = total + torch.trapezoid(-0.5 * slope * (eps - eps_hat)[:, 0] ** 2, t) / 4
    assert bound.terms.sum(1).mean().item() == pytest.approx(total.item() / LN2, rel=2e-3)


@each_schedule
def test_the_bound_of_an_exact_mixture_is_its_cross_entropy(schedule):
    """With the exact denoiser the continuous bound is no bound but the likelihood, whatever the data. Expectations by
    Gauss and Hermite's rule over x_0 and eps, the middle of every stratum."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(32))
    k, i, j = torch.meshgrid(torch.arange(2), torch.arange(32), torch.arange(32), indexing="ij")
    k, i, j = k.flatten(), i.flatten(), j.flatten()
    x_0 = (MIXTURE.means[k, 0] + MIXTURE.stds[k] * nodes[i])[:, None]
    share = MIXTURE.weights[k] * weights[i] * weights[j] / (2 * math.pi)
    middle_first = iter([torch.zeros(len(k), 1, dtype=F64)])
    bound = continuous_bound(
        MIXTURE.denoise(schedule), x_0, schedule, lambda x: next(middle_first, nodes[j][:, None]), terms=256
    )
    density = torch.distributions.Normal(MIXTURE.means[:, 0], MIXTURE.stds).log_prob(x_0).exp() @ MIXTURE.weights
    assert share.sum().item() == pytest.approx(1)
    assert (share @ bound.total).item() == pytest.approx(-(share @ density.log2()).item(), abs=2e-3)


def test_an_open_end_is_cut():
    schedule = Schedule(Cosine(logsnr_min=None))
    bound = continuous_bound(exact(schedule), PAIRS, schedule, signs)
    assert bound.total.isfinite().all() and 0.9999 < bound.edges[0] < 1
    assert prior_bits(PAIRS, schedule, torch.tensor(1.0)).abs().max() == 0


# ------------------------------------------------------------------------------------------------------- how it is used


@pytest.mark.parametrize(
    "measure",
    [
        lambda d, x, n: discrete_bound(d, x, UniformGrid()(SCHEDULES[1], 20), SCHEDULES[1], n),
        lambda d, x, n: discrete_bound(d, x, UniformGrid()(SCHEDULES[1], 20), SCHEDULES[1], n, terms=5),
        lambda d, x, n: continuous_bound(d, x, SCHEDULES[1], n, terms=5),
    ],
    ids=["all terms", "some terms", "continuous"],
)
def test_a_sample_does_not_depend_on_its_batch(measure):
    x_0 = torch.randn(4, 2, 3, 3)
    denoise = GaussianMixture.gaussian(torch.zeros(2, 3, 3), 1.0).denoise(SCHEDULES[1])
    whole = measure(denoise, x_0, SampleNoise.range(7, 4))
    parts = [measure(denoise, x_0[i : i + 2], SampleNoise.range(7, 2, i)) for i in (0, 2)]
    joined = VariationalBound.cat(parts)
    for name in ("prior", "terms", "errors", "readout"):
        assert torch.allclose(getattr(joined, name), getattr(whole, name), rtol=1e-5)
    assert torch.equal(joined.edges, whole.edges) and whole.total.dtype == F64


def test_pixels_of_8_bits_cost_less_than_8_bits():
    """Pictures of one colour each and the denoiser of N(0, s^2): a probability, and far from uniform."""
    schedule = SCHEDULES[1]
    g = torch.Generator().manual_seed(0)
    x_0 = (S / 3 * torch.randn(200, 1, 4, 4, generator=g) * 127.5 + 127.5).round().clamp(0, 255) / 127.5 - 1
    denoise = GaussianMixture.gaussian(torch.zeros(1, 4, 4), S / 3).denoise(schedule)
    bound = continuous_bound(denoise, x_0, schedule, noise(5), readout=Discretized())
    entropy = 0.5 * math.log2(2 * math.pi * math.e * (S / 3) ** 2) + math.log2(127.5)
    assert bound.estimate.mean == pytest.approx(entropy, abs=4 * bound.estimate.error + 0.05)
    assert (bound.readout > 0).all() and bound.estimate.mean < 8


def test_an_estimate_is_mean_and_standard_error():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    e = Estimate.of(values)
    assert (e.mean, e.n) == (3.0, 4) and e.error == pytest.approx(values.std().item() / 2)
    assert Estimate.of(values[:1]).error == math.inf


def test_bounds_of_different_edges_do_not_join():
    a, b = (
        discrete_bound(exact(s), PAIRS, UniformGrid()(s, k), s, signs)
        for s, k in ((SCHEDULES[0], 4), (SCHEDULES[0], 5))
    )
    for parts in ([], [a, b]):
        with pytest.raises(ValueError, match="same edges"):
            VariationalBound.cat(parts)


@pytest.mark.parametrize(
    ("times", "terms"),
    [([1.0, 0.0], None), ([1.0, 0.5, 0.1], None), ([1.0, 0.5, 0.0], 2), ([1.0, 0.5, 0.0], 0)],
    ids=str,
)
def test_chains_that_bound_nothing_are_refused(times, terms):
    with pytest.raises(UserError, match=r"bound needs|terms were asked"):
        discrete_bound(exact(SCHEDULES[0]), PAIRS, torch.tensor(times, dtype=F64), SCHEDULES[0], signs, terms=terms)


@pytest.mark.parametrize("fields", [{"terms": 0}, {"t_min": 0.0}, {"t_min": 1.0}, {"t_min": float("nan")}])
def test_integrals_over_nothing_are_refused(fields):
    with pytest.raises(UserError, match="bound needs"):
        continuous_bound(exact(SCHEDULES[0]), PAIRS, SCHEDULES[0], signs, **fields)


def test_the_default_readout_is_the_density():
    times, schedule = UniformGrid()(SCHEDULES[1], 10), SCHEDULES[1]
    a, b = (discrete_bound(exact(schedule), PAIRS, times, schedule, signs, readout=r) for r in (None, Gaussian()))
    assert torch.equal(a.total, b.total)

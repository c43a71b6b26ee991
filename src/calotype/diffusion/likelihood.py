"""How many bits the data cost under a denoiser: the variational bound, term by term.

A chain of Gaussians from t_0 (noise) over t_1 > ... > t_n = 0 (data) bounds the likelihood:

    -log p(x_0) <= KL(q(x_t0 | x_0) || N(0, sigma_t0^2 I))                                    prior
                   + sum_{i < n - 1} KL(q(x_t' | x_t, x_0) || p(x_t' | x_t)), t = t_i, t' = t_{i+1}     terms
                   - log p(x_0 | x_t), t = t_{n-1}                                            readout

Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (5). With infinitely many steps the sum becomes an integral that
depends on the ends of log-SNR alone:

    terms -> 1/2 int SNR |x_0 - x_0_hat(x_t)|^2 d logsnr = 1/2 E_t[-logsnr'(t) |eps - eps_hat|^2]

Kingma et al. 2021, https://arxiv.org/abs/2107.00630, eq. (17). Everything is reported in bits per dimension of x_0,
nats / (D log 2), for each sample; an `Estimate` says how well the mean is known. Noise is drawn anew for every term
from generators of the samples' own, so two models given the same seeds meet the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from calotype.diffusion.readout import Gaussian, Readout
from calotype.diffusion.schedule import Schedule, rows, wide
from calotype.diffusion.variance import FixedSmall, Transition, Variance, predictor, step_bits
from calotype.errors import UserError
from calotype.types import Denoise, Latent, Noise

LOGSNR_FLOOR = -20.0
"""Where an integral over log-SNR begins if the schedule ends in pure noise; below it lie 1e-9 bits."""


@dataclass(frozen=True)
class Estimate:
    """A mean over n samples and its standard error, std / sqrt(n); infinite for a single sample."""

    mean: float
    error: float
    n: int

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """Of independent values (n,), n >= 1."""
        v = values.detach().double()
        error = float(v.std()) / math.sqrt(len(v)) if len(v) > 1 else math.inf
        return cls(float(v.mean()), error, len(v))


@dataclass(frozen=True)
class VariationalBound:
    """An upper bound on -log2 p(x_0) / D, sample by sample, float64 on the CPU. `VariationalBound.cat` joins batches.

    Args:
        edges: (K + 1,) decreasing times; term k is what the bound pays between edges[k] and edges[k + 1].
        prior: (B,).
        terms: (B, K); their sum over k is an unbiased estimate for each sample.
        errors: (B, K) mean squared error of the prediction of x_0 at the time that was visited between the edges.
        readout: (B,); may be negative, see `readout`.
    """

    edges: Tensor
    prior: Tensor
    terms: Tensor
    errors: Tensor
    readout: Tensor

    @property
    def rate(self) -> Tensor:
        """(B,) prior and terms: what it costs to send x at the last noisy time."""
        return self.prior + self.terms.sum(1)

    @property
    def total(self) -> Tensor:
        """(B,) the bound: rate and readout."""
        return self.rate + self.readout

    @property
    def estimate(self) -> Estimate:
        """The mean of the bound over samples."""
        return Estimate.of(self.total)

    @property
    def per_time(self) -> tuple[Estimate, ...]:
        """The mean of every term over samples, from noise to data."""
        return tuple(Estimate.of(term) for term in self.terms.T)

    @classmethod
    def cat(cls, bounds: Sequence[VariationalBound]) -> VariationalBound:
        """The samples of all batches, in order.

        Raises:
            ValueError: none are given, or their edges differ.
        """
        if not bounds or any(not torch.equal(b.edges, bounds[0].edges) for b in bounds):
            raise ValueError("bounds can be joined only if there are some and all have the same edges")
        names = ("prior", "terms", "errors", "readout")
        return cls(bounds[0].edges, *(torch.cat([getattr(b, name) for b in bounds]) for name in names))


class Term(NamedTuple):
    """One step of a chain: its bits per dimension (B,), and the prediction of x_0 (B, ...) that they were paid for."""

    bits: Tensor
    x_0: Latent


@torch.no_grad()  # torch re-enters the context at every yield
def bound_terms(
    denoise: Denoise,
    x_0: Latent,
    steps: Iterable[tuple[Tensor, Tensor]],
    schedule: Schedule,
    noise: Noise,
    variance: Variance,
    readout: Readout,
) -> Iterator[Term]:
    """One `Term` per step.

    Args:
        denoise: (x_t, t) -> E[x_0 | x_t]; a `PosteriorVariance` if `variance` is to be read off it.
        x_0: clean samples (B, ...).
        steps: pairs (t, s) of times, s < t, one number or (B,) each; s = 0 gives the readout.
        schedule: the forward process of `denoise`.
        noise: x -> N(0, 1) noise like x, called once per step.
        variance: of the reverse steps. A bound holds for the sampler that has the same one.
        readout: the last step's.
    """
    predict, x_0 = predictor(denoise), x_0.to(wide(x_0))
    for t, s in steps:
        time = t.to(x_0.device).expand(len(x_0))
        predicted = predict(schedule.perturb(x_0, noise(x_0), time), time)
        yield Term(step_bits(Transition.of(schedule, t, s), variance, readout, x_0, predicted), predicted.x_0)


@torch.no_grad()
def prior_bits(x_0: Latent, schedule: Schedule, t: Tensor) -> Tensor:
    """KL(q(x_t | x_0) || N(0, sigma_t^2 I)) = SNR |x_0|^2 / 2, (B,) bits per dimension, at one time t: what it costs
    that sampling begins with pure noise."""
    snr = schedule.logsnr(t.double()).exp().to(x_0)
    return 0.5 * snr * x_0.to(wide(x_0)).square().flatten(1).mean(1) / math.log(2)


@torch.no_grad()
def discrete_bound(
    denoise: Denoise,
    x_0: Latent,
    times: Tensor,
    schedule: Schedule,
    noise: Noise,
    *,
    variance: Variance | None = None,
    readout: Readout | None = None,
    terms: int | None = None,
) -> VariationalBound:
    """The bound of the chain that steps through `times`.

    Args:
        denoise, x_0, schedule, noise, variance, readout: see `bound_terms`; `FixedSmall` and `Gaussian` by default.
        times: (n + 1,) strictly decreasing, the last 0; `UniformGrid()(schedule, T)` is the chain of a table.
        terms: how many of the n - 1 terms to visit: one per equal stratum, the same place in each, drawn per sample,
            which leaves the sum unbiased. None visits all of them.

    Raises:
        UserError: the times do not end at 0, there are fewer than 2 steps, or more terms than the chain has.
    """
    n = len(times) - 1
    if n < 2 or times[-1] != 0:
        raise UserError(f"a bound needs at least 2 steps that end at t = 0, got {n} to t = {float(times[-1]):.4g}")
    k = n - 1 if terms is None else terms
    if not 1 <= k <= n - 1:
        raise UserError(f"{terms} terms were asked for, but a chain of {n} steps has {n - 1}; take 1 to {n - 1}")
    times, readout = times.double().cpu(), readout or Gaussian()
    strata = torch.arange(k + 1, dtype=torch.float64) * (n - 1) / k

    def steps() -> Iterator[tuple[Tensor, Tensor]]:
        u = torch.zeros(len(x_0), dtype=torch.float64) if k == n - 1 else _uniform(noise, x_0)
        for low, high in pairwise(strata):
            i = torch.lerp(low, high, u).floor().long().clamp(max=n - 2)
            yield times[i], times[i + 1]
        yield times[-2], times[-1]

    visited = bound_terms(denoise, x_0, steps(), schedule, noise, variance or FixedSmall(), readout)
    below = strata.floor().long()
    edges = torch.lerp(times[below], times[(below + 1).clamp(max=n - 1)], strata - below)
    return _collect(edges, prior_bits(x_0, schedule, times[0]), visited, (n - 1) / k, x_0)


@torch.no_grad()
def continuous_bound(
    denoise: Denoise,
    x_0: Latent,
    schedule: Schedule,
    noise: Noise,
    *,
    readout: Readout | None = None,
    terms: int = 64,
    t_min: float = 1e-3,
) -> VariationalBound:
    """The bound of infinitely many steps from t = 1 to t_min; the readout has variance 1 / SNR(t_min).

    The integral over log-SNR is cut into `terms` equal strata with one time in each, the same place in all, drawn per
    sample: an unbiased estimate that needs no derivative of the curve. A schedule that ends in pure noise is cut at
    `LOGSNR_FLOOR`.

    Raises:
        UserError: fewer than 1 term, or t_min outside (0, 1).
    """
    if terms < 1 or not 0 < t_min < 1:
        raise UserError(
            f"a bound needs terms >= 1 and t_min in (0, 1), got {terms} and {t_min}; 64 and 0.001 are usual"
        )
    last = torch.tensor(t_min, dtype=torch.float64)
    low, high = max(LOGSNR_FLOOR, float(schedule.logsnr(last.new_ones(())))), float(schedule.logsnr(last))
    strata, u = torch.linspace(low, high, terms + 1, dtype=torch.float64), _uniform(noise, x_0)
    predict, x = predictor(denoise), x_0.to(wide(x_0))

    def visited() -> Iterator[Term]:
        for lower, upper in pairwise(strata):
            logsnr = torch.lerp(lower, upper, u)
            t = schedule.time(logsnr).to(x.device)
            found = predict(schedule.perturb(x, noise(x), t), t).x_0
            nats = 0.5 * rows((upper - lower) * logsnr.exp(), x) * (x - found).square()
            yield Term(nats.flatten(1).mean(1) / math.log(2), found)
        t = last.to(x.device).expand(len(x))
        found = predict(schedule.perturb(x, noise(x), t), t).x_0
        nats = (readout or Gaussian())(x, found, x.new_tensor(-high))
        yield Term(nats.flatten(1).mean(1) / math.log(2), found)

    edges = schedule.time(strata)
    return _collect(edges, prior_bits(x_0, schedule, edges[0]), visited(), 1.0, x)


def _collect(edges: Tensor, prior: Tensor, visited: Iterator[Term], weight: float, x_0: Latent) -> VariationalBound:
    """All terms but the last weighted, the last as readout."""
    bits, errors = [], []
    for term in visited:
        bits.append(term.bits.double().cpu())
        errors.append((term.x_0 - x_0).square().flatten(1).mean(1).double().cpu())
    terms = torch.stack(bits[:-1], 1) * weight
    return VariationalBound(edges, prior.double().cpu(), terms, torch.stack(errors[:-1], 1), bits[-1])


def _uniform(noise: Noise, x_0: Latent) -> Tensor:
    """One number in (0, 1) per sample, float64 on the CPU, from the sample's own generator."""
    u: Tensor = torch.special.ndtr(noise(x_0.flatten(1)[:, :1]).double().cpu())
    return u[:, 0]

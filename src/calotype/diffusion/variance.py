"""How wide the steps of the reverse chain are.

A chain goes from t to s < t. With Delta = logsnr(t) - logsnr(s) < 0 and r = alpha_t / alpha_s:

    q(x_s | x_t, x_0) = N(c_x x_t + c_0 x_0, small)        c_x = r sigma_s^2 / sigma_t^2, c_0 = -alpha_s expm1(Delta)
    p(x_s | x_t)      = N(c_x x_t + c_0 x_0_hat, v)        small = -sigma_s^2 expm1(Delta)
                                                           large = -sigma_t^2 expm1(Delta)

`small` and `large` are DDPM's beta~_t and beta_t for one entry of a table; the best v lies between them whatever the
data: `small` for a single point, `large` for N(0, I) (on a variance preserving path). Fixed variances choose an end,
`LearnedRange` lets the network say for every element where between the two, in the logarithm.

s = 0 is the data themselves, whatever noise a truncated curve would leave there: c_x = 0, c_0 = 1, small = 0. Where a
logarithm of it is needed, the step before of equal length, 2t to t, lends its value: on a table that is the
replacement of entry 0 by entry 1 in the code of DDPM and ADM.

Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (6, 7) and section 3.2; Nichol & Dhariwal 2021,
https://arxiv.org/abs/2102.09672, section 3.1.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from calotype.diffusion.readout import Gaussian, Readout
from calotype.diffusion.schedule import Schedule, rows
from calotype.errors import UserError
from calotype.registry import Registry
from calotype.types import Denoise, Latent, Metrics, Time


class Prediction(NamedTuple):
    """All that a denoiser says: x_0 (B, C, H, W), and where in its range the log variance lies, v of the same shape,
    -1 for `small` and 1 for `large`; None if the network has not learned it."""

    x_0: Latent
    v: Tensor | None = None


@runtime_checkable
class PosteriorVariance(Protocol):
    """A `Denoise` that can say more than x_0. What `Denoiser.bind` gives is one; a guidance that wants its samples to
    keep a learned variance returns one too."""

    @abstractmethod
    def __call__(self, x_t: Latent, t: Time) -> Latent:
        """E[x_0 | x_t]."""

    @abstractmethod
    def predict(self, x_t: Latent, t: Time) -> Prediction:
        """The same x_0 with v, at the cost of one network call."""


def predictor(denoise: Denoise) -> Callable[[Latent, Time], Prediction]:
    """(x_t, t) -> Prediction: `denoise.predict` where there is one, else x_0 alone."""
    if isinstance(denoise, PosteriorVariance):
        return denoise.predict
    return lambda x_t, t: Prediction(denoise(x_t, t))


@dataclass(frozen=True)
class Transition:
    """The step from t to s, see the module docstring. `Transition.of` makes it; every field is float64, of t's shape.

    Args:
        c_x, c_0: the posterior's mean is c_x x_t + c_0 x_0.
        log_small, log_large: ends of the range of log variances, finite.
        arrives: whether s = 0; no noise is added there, and a bound has its readout.
    """

    c_x: Tensor
    c_0: Tensor
    log_small: Tensor
    log_large: Tensor
    arrives: Tensor

    @classmethod
    def of(cls, schedule: Schedule, t: Tensor, s: Tensor) -> Transition:
        """From times t to times s, both of one shape (one number or (B,)), 0 <= s < t <= 1.

        Raises:
            ValueError: some s is not below its t, or either is outside [0, 1].
        """
        t, s = t.double(), s.double()
        if not bool(((s >= 0) & (s < t) & (t <= 1)).all()):
            raise ValueError(f"a step of the reverse chain needs 0 <= s < t <= 1, got t = {t} and s = {s}")
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        arrives = s == 0
        alpha_s, sigma_s = torch.where(arrives, 1.0, alpha_s), torch.where(arrives, 0.0, sigma_s)
        here = schedule.logsnr(t)
        # what came in since s, as a share of sigma_t^2: by expm1, for beta_t = 1e-4 is a difference of nearly equals
        share = torch.where(arrives, 1.0, -torch.expm1(here - schedule.logsnr(s)))
        log_large = 2 * sigma_t.log() + share.log()
        lent = 2 * sigma_t.log() + (-torch.expm1(schedule.logsnr((2 * t).clamp(max=1)) - here)).log()
        lent = torch.where(lent.isfinite(), lent, log_large)  # a chain of one step has no step before
        log_small = torch.where(arrives, lent, 2 * sigma_s.log() + share.log())
        return cls(alpha_t / alpha_s * (sigma_s / sigma_t) ** 2, alpha_s * share, log_small, log_large, arrives)

    def mean(self, x_t: Latent, x_0: Latent) -> Latent:
        """c_x x_t + c_0 x_0, like x_t."""
        return _like(self.c_x, x_t) * x_t + _like(self.c_0, x_0) * x_0


class Variance(Protocol):
    """Which variance the reverse steps have. A denoiser holds the one that its network was built and trained for."""

    outputs: ClassVar[int]
    """How many times the channels of x the network gives: 1, or 2 where it also says v."""

    def check(self, schedule: Schedule) -> None:
        """Raise `UserError` if this is made for another schedule to train on; any will do unless a member says so."""
        return None

    @abstractmethod
    def log_variance(self, step: Transition, x_t: Latent, v: Tensor | None) -> Tensor:
        """The log of the reverse step's variance, in x_t's dtype, of a shape that broadcasts with x_t (B, ...).

        Raises `UserError` if v is needed and missing."""

    @abstractmethod
    def loss(self, schedule: Schedule, x_0: Latent, t: Time, predicted: Prediction) -> tuple[Tensor, Metrics]:
        """What is added to the training loss of each sample (B,) so that v is learned, and metrics; zero if there is
        nothing to learn. Gradients reach v alone."""


variances: Registry[Variance] = Registry("variance")


@variances.register("fixed_small")
@dataclass(frozen=True)
class FixedSmall(Variance):
    """v = `small`, the variance of the true posterior."""

    outputs: ClassVar[int] = 1

    def log_variance(self, step: Transition, x_t: Latent, v: Tensor | None) -> Tensor:
        """log small; any v is passed over."""
        return _like(step.log_small, x_t)

    def loss(self, schedule: Schedule, x_0: Latent, t: Time, predicted: Prediction) -> tuple[Tensor, Metrics]:
        """Zero."""
        return x_0.new_zeros(len(x_0)), {}


@variances.register("fixed_large")
@dataclass(frozen=True)
class FixedLarge(Variance):
    """v = `large`, on arrival at the data `small`: the paper's choice for a reasonable readout."""

    outputs: ClassVar[int] = 1

    def log_variance(self, step: Transition, x_t: Latent, v: Tensor | None) -> Tensor:
        """log large; any v is passed over."""
        return _like(torch.where(step.arrives, step.log_small, step.log_large), x_t)

    def loss(self, schedule: Schedule, x_0: Latent, t: Time, predicted: Prediction) -> tuple[Tensor, Metrics]:
        """Zero."""
        return x_0.new_zeros(len(x_0)), {}


@variances.register("learned_range")
@dataclass(frozen=True)
class LearnedRange(Variance):
    """log variance = f log large + (1 - f) log small, f = (v + 1) / 2, with v from the network's second C channels.

    Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672, eq. (15, 16). The loss is L_simple + weight L_vlb: to the
    objective is added weight steps L_t, L_t the bound's term of the step t -> t - 1 / steps in bits per dimension (the
    paper's nats differ by a factor that `weight` absorbs; its code has bits). The prediction of x_0 gets no gradient.

    Args:
        weight: lambda.
        steps: T of the chain whose bound is minimised; that of the table, if the schedule is one.
        readout: the bound's last term; `Discretized` for 8-bit pixels.

    Raises:
        UserError: a weight that is not positive (v would never be learned), or fewer than 2 steps.
    """

    outputs: ClassVar[int] = 2

    weight: float = 0.001
    steps: int = 1000
    readout: Readout = field(default_factory=Gaussian)

    def __post_init__(self) -> None:
        if not (0 < self.weight < math.inf and self.steps >= 2):
            raise UserError(
                f"a learned variance needs weight > 0 and at least 2 steps, got {self.weight} and {self.steps}; the "
                "paper uses 0.001 and the length of its table, and a variance that is not to be learned is fixed_small"
            )

    def check(self, schedule: Schedule) -> None:
        """A table has the steps that it has."""
        entries = schedule.curve.entries
        if entries not in (None, self.steps):
            raise UserError(
                f"the bound is of a chain of {self.steps} steps, but {schedule.curve} is a table of {entries} entries; "
                f"take variance.steps={entries}"
            )

    def log_variance(self, step: Transition, x_t: Latent, v: Tensor | None) -> Tensor:
        """See the class; v may lie beyond [-1, 1], which extrapolates."""
        if v is None:
            raise UserError(
                "a learned variance was asked for, but the denoiser (or a guidance around it) gives none; train one "
                "with variance 'learned_range', or take 'fixed_small'"
            )
        small, large = _like(step.log_small, x_t), _like(step.log_large, x_t)
        f = (v.to(x_t) + 1) / 2
        return f * large + (1 - f) * small

    def loss(self, schedule: Schedule, x_0: Latent, t: Time, predicted: Prediction) -> tuple[Tensor, Metrics]:
        """weight steps L_t, and "vlb", the batch's mean of steps L_t: an estimate of the bound, without its prior."""
        step = Transition.of(schedule, t, (t.double() - 1 / self.steps).clamp(min=0))
        terms = self.steps * step_bits(step, self, self.readout, x_0, Prediction(predicted.x_0.detach(), predicted.v))
        return self.weight * terms, {"vlb": terms.detach().mean()}


def gaussian_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL(N(mean_1, e^log_variance_1) || N(mean_2, e^log_variance_2)) in nats, one per element; all broadcast.

    1/2 (e^d - 1 - d + (mean_1 - mean_2)^2 e^-log_variance_2) with d the difference of the logs: Kingma & Welling 2014,
    https://arxiv.org/abs/1312.6114, appendix B, for two Gaussians.
    """
    d = log_variance_1 - log_variance_2
    return 0.5 * (torch.expm1(d) - d + (mean_1 - mean_2).square() * (-log_variance_2).exp())


def step_bits(step: Transition, variance: Variance, readout: Readout, x_0: Latent, predicted: Prediction) -> Tensor:
    """The bound's term of one step, (B,) bits per dimension: KL(q(x_s | x_t, x_0) || p(x_s | x_t)) in the mean over
    the elements of x_0 (B, ...), and -log p(x_0 | x_t) on arrival.

    Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (5). x_t itself cancels: the means differ by the prediction.
    """
    log_variance = variance.log_variance(step, x_0, predicted.v)
    c_0, log_small, arrives = (_like(w, x_0) for w in (step.c_0, step.log_small, step.arrives))
    nats = gaussian_kl(c_0 * (x_0 - predicted.x_0), log_small, x_0.new_zeros(()), log_variance)
    if bool(step.arrives.any()):
        nats = torch.where(arrives.bool(), readout(x_0, predicted.x_0, log_variance), nats)
    return nats.expand_as(x_0).flatten(1).mean(1) / math.log(2)


def _like(v: Tensor, x: Tensor) -> Tensor:
    """One number, or one per sample, to broadcast with x (B, ...)."""
    return rows(v.reshape(-1), x)

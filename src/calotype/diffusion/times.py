"""Which times training visits: one time per sample, at random.

A time sampler turns uniform numbers into times by its quantile function: the density of t is 1 / (d quantile / du). To
visit noise levels by another density, or to weight them otherwise, is the same in expectation (see `weighting`), and
so is another curve under uniform times (see `curves`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from calotype.diffusion.curves import Cosine, Curve, LogNormal
from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.registry import Registry
from calotype.types import Time

# torch draws u as multiples of 2^-24; half a unit keeps t off 0, where an error in eps is not defined, and off 1
_HALF_UNIT = 2.0**-25


def _centred(u: Tensor) -> Tensor:
    """u in float64, moved to the middle of its cell."""
    return u.double() + _HALF_UNIT


class TimeSampler(Protocol):
    """Where in time a training step looks."""

    @abstractmethod
    def quantile(self, u: Tensor) -> Time:
        """The time in (0, 1] below which a share u of all times lie, for u in (0, 1) (B,) float64; increasing."""

    def check(self, schedule: Schedule) -> None:
        """Raise `UserError` if these times are made for another schedule; any will do unless a member says so."""
        return None

    def __call__(self, u: Tensor) -> Time:
        """One time in (0, 1] per sample, float64 (B,), from u (B,) uniform in [0, 1)."""
        return self.quantile(_centred(u))


time_samplers: Registry[TimeSampler] = Registry("time_sampler")


@time_samplers.register("uniform")
@dataclass(frozen=True)
class UniformTimes(TimeSampler):
    """t ~ U(0, 1), independently."""

    def quantile(self, u: Tensor) -> Time:
        """t = u."""
        return u


@time_samplers.register("stratified")
@dataclass(frozen=True)
class StratifiedTimes(TimeSampler):
    """Row i draws from the i-th of B equally likely slices: a less noisy estimate of the same loss, since batches are
    shuffled. In the spirit of Kingma et al. 2021, https://arxiv.org/abs/2107.00630, appendix I.1.

    Args:
        of: the times that are sliced.
    """

    of: TimeSampler = field(default_factory=UniformTimes)

    def check(self, schedule: Schedule) -> None:
        """That of the times inside."""
        self.of.check(schedule)

    def quantile(self, u: Tensor) -> Time:
        """That of the times inside."""
        return self.of.quantile(u)

    def __call__(self, u: Tensor) -> Time:
        """t_i = quantile((i + u_i) / B)."""
        return self.quantile((torch.arange(len(u), device=u.device) + _centred(u)) / len(u))


@time_samplers.register("discrete")
@dataclass(frozen=True)
class DiscreteTimes(TimeSampler):
    """t uniform over {1/T, ..., 1}, the entries of a table of T betas: what DDPM and Stable Diffusion train on.

    Raises:
        UserError: fewer than 1 step.
    """

    steps: int = 1000

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"at least 1 step is needed, got {self.steps}; a table has 1000 usually")

    def check(self, schedule: Schedule) -> None:
        """A table has the entries that it has; on another curve any number of times may be visited."""
        entries = schedule.curve.entries
        if entries not in (None, self.steps):
            raise UserError(
                f"the times are the entries of a table of {self.steps}, but {schedule.curve} has {entries}; take "
                f"objective.time_sampler.steps={entries}"
            )

    def quantile(self, u: Tensor) -> Time:
        """t = (floor(T u) + 1) / T."""
        return ((u * self.steps).floor() + 1) / self.steps


@time_samplers.register("logit_normal")
@dataclass(frozen=True)
class LogitNormalTimes(TimeSampler):
    """log(t / (1 - t)) ~ N(mean, std^2): Esser et al. 2024, https://arxiv.org/abs/2403.03206, eq. (19).

    density = exp(-(logit t - mean)^2 / (2 std^2)) / (std sqrt(2 pi) t (1 - t))

    Args:
        mean: positive is noisier.
        std: the paper's best are (0, 1) and, for many steps, (0.5, 0.6).

    Raises:
        UserError: std is not positive, or mean not finite.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.std < math.inf and math.isfinite(self.mean)):
            raise UserError(
                f"LogitNormalTimes needs std > 0 and a finite mean, got {self.std} and {self.mean}; try 1 and 0"
            )

    def quantile(self, u: Tensor) -> Time:
        """sigmoid(mean + std ndtri(u))."""
        t: Tensor = (self.mean + self.std * torch.special.ndtri(u)).sigmoid()
        return t.clamp(min=_HALF_UNIT)


@time_samplers.register("mode")
@dataclass(frozen=True)
class ModeTimes(TimeSampler):
    """t = 1 - w - scale (cos^2(pi w / 2) - 1 + w) for uniform w: Esser et al. 2024, https://arxiv.org/abs/2403.03206,
    eq. (20). Uniform for 0; more in the middle for a positive scale, more at the ends for a negative one.

    Args:
        scale: 1.29 is the paper's best.

    Raises:
        UserError: scale outside [-1, 2 / (pi - 2)], where t would not be monotonic in w.
    """

    scale: float = 1.29

    def __post_init__(self) -> None:
        if not -1 <= self.scale <= 2 / (math.pi - 2):
            raise UserError(f"ModeTimes needs a scale in [-1, 1.7519], got {self.scale}; the paper uses 1.29")

    def quantile(self, u: Tensor) -> Time:
        """u - scale (sin^2(pi u / 2) - u), which is the above for w = 1 - u."""
        t = u - self.scale * ((math.pi / 2 * u).sin() ** 2 - u)
        return t.clamp(_HALF_UNIT, 1)  # at the ends of the range of scales t - u cancels to rounding


@time_samplers.register("cosmap")
@dataclass(frozen=True)
class CosMapTimes(TimeSampler):
    """density = 2 / (pi (1 - 2 t + 2 t^2)): Esser et al. 2024, https://arxiv.org/abs/2403.03206, eq. (21).

    On the curve `Flow` log-SNR is distributed as under uniform times on `Cosine(None, None)`."""

    def quantile(self, u: Tensor) -> Time:
        """1 - 1 / (tan(pi u / 2) + 1), as sin / (sin + cos)."""
        sin, cos = (math.pi / 2 * u).sin(), (math.pi / 2 * u).cos()
        return sin / (sin + cos)


@time_samplers.register("curve")
@dataclass(frozen=True)
class CurveTimes(TimeSampler):
    """The times at which the schedule has the log-SNR that another curve has at uniform times; so the noise levels are
    drawn by that curve's density, whatever the schedule's.

    The default draws log sigma ~ N(-1.2, 1.2^2) as Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1.

    Args:
        density: the curve whose levels are drawn. Levels beyond the ends of `curve` become its ends.
        curve: that of the schedule that is trained on; of another one, the density would be another.
    """

    density: Curve = field(default_factory=LogNormal)
    curve: Curve = field(default_factory=Cosine)

    def check(self, schedule: Schedule) -> None:
        """The schedule's curve must be `curve`."""
        if schedule.curve != self.curve:
            raise UserError(
                f"the times draw noise levels along {self.curve}, but the schedule is {schedule.curve}; give the times "
                "the same curve (objective.time_sampler.curve)"
            )

    def quantile(self, u: Tensor) -> Time:
        """curve.time(density.logsnr(u))."""
        return self.curve.time(self.density.logsnr(u)).clamp(min=_HALF_UNIT)

"""How noisy it is at which time: strictly decreasing maps t -> log-SNR.

    logsnr(t) = 2 log(alpha(t) / sigma(t)),    t in [0, 1],    0 clean, 1 noise

log-SNR may be infinite at the ends (+inf: no noise at all; -inf: nothing but noise). Everything downstream uses ratios
of alpha and sigma and stays finite there. A curve computes in the dtype it is given; `Schedule` gives it float64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from calotype.diffusion.clock import Clock
from calotype.errors import UserError
from calotype.registry import Registry


class Curve(ABC):
    """A strictly decreasing, invertible map from time to log-SNR."""

    @abstractmethod
    def logsnr(self, t: Tensor) -> Tensor:
        """log-SNR at the times t (any shape, in [0, 1])."""

    @abstractmethod
    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse: the time in [0, 1] of this log-SNR; values beyond the ends give the ends."""

    @property
    def clock(self) -> Clock:
        """How a network trained on this curve is told the time, unless somebody says otherwise."""
        return Clock()


curves: Registry[Curve] = Registry("curve")


@curves.register("cosine")
@dataclass(frozen=True)
class Cosine(Curve):
    """Equal steps in the angle between signal and noise: alpha = cos(theta), sigma = sin(theta), theta linear in t.

        logsnr = -2 log tan(theta),    tan(theta) from exp(-logsnr_max / 2) at t = 0 to exp(-logsnr_min / 2) at t = 1

    Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672; truncated as in Hoogeboom et al. 2023,
    https://arxiv.org/abs/2301.11093.

    Args:
        logsnr_min, logsnr_max: the log-SNR at t = 1 and t = 0; `None` leaves that end open (exactly no signal, exactly
            no noise). An open noisy end needs a parameterization that is defined there (velocity or x0).

    Raises:
        UserError: logsnr_min is not below logsnr_max.
    """

    logsnr_min: float | None = -15.0
    logsnr_max: float | None = 15.0

    def __post_init__(self) -> None:
        low, high = self._ends
        if not low < high:
            raise UserError(f"Cosine needs logsnr_min < logsnr_max, got {low} and {high}; swap or widen them")

    @property
    def _ends(self) -> tuple[float, float]:
        low = -math.inf if self.logsnr_min is None else self.logsnr_min
        high = math.inf if self.logsnr_max is None else self.logsnr_max
        return low, high

    def logsnr(self, t: Tensor) -> Tensor:
        """-2 log tan(theta(t)); written with theta and its complement so that both open ends are exactly infinite."""
        low, high = self._ends
        theta = _lerp(t, _angle(high), _angle(low))
        complement = _lerp(1 - t, _angle(-low), _angle(-high))
        return 2 * (complement.sin().log() - theta.sin().log())

    def time(self, logsnr: Tensor) -> Tensor:
        """(theta - theta(0)) / (theta(1) - theta(0))."""
        low, high = self._ends
        theta = (-logsnr / 2).exp().atan()
        return ((theta - _angle(high)) / (_angle(low) - _angle(high))).clamp(0, 1)


def _angle(logsnr: float) -> float:
    # exp overflows in Python (not in torch) beyond 709; the angle is pi/2 to the last bit long before
    return math.atan(math.exp(min(-logsnr / 2, 700.0)))


def _lerp(t: Tensor, start: float, end: float) -> Tensor:
    return start + t * (end - start)


class Tabulated(Curve):
    """A table of T betas, as DDPM and Stable Diffusion define their noise: abar_i = prod_{j <= i} (1 - beta_j).

    Entry i (0-based) lies at t = (i + 1) / T and t = 0 is the clean sample, so `n` uniform steps from t = 1 visit
    "trailing" indices (999, 979, ... for n = 50). Between entries log abar is linear in t, i.e. beta(t) is piecewise
    constant: the one interpolation that is exact at t = 0, strictly decreasing, and invertible in closed form.
    """

    @abstractmethod
    def betas(self) -> Tensor:
        """(T,) float64, each in (0, 1)."""

    @cached_property
    def _log_abar(self) -> Tensor:
        """(T + 1,) float64: log abar at t = 0, 1/T, ..., 1."""
        steps = torch.log1p(-self.betas())
        return torch.cat([steps.new_zeros(1), steps.cumsum(0)])

    @property
    def clock(self) -> Clock:
        """The table index T t - 1."""
        return Clock(scale=float(len(self._log_abar) - 1), offset=-1.0)

    def logsnr(self, t: Tensor) -> Tensor:
        """log(abar / (1 - abar)), written with expm1 because abar is close to 1 near t = 0."""
        table = self._log_abar.to(t)
        position = t.clamp(0, 1) * (len(table) - 1)
        i = position.long().clamp(max=len(table) - 2)
        log_abar = torch.lerp(table[i], table[i + 1], position - i)
        return -torch.expm1(-log_abar).log()

    def time(self, logsnr: Tensor) -> Tensor:
        """Linear interpolation of t in log abar = log sigmoid(logsnr)."""
        table = self._log_abar.to(logsnr)
        log_abar = logsigmoid(logsnr).clamp(min=table[-1])
        i = torch.searchsorted(-table, -log_abar.contiguous()).clamp(1, len(table) - 1) - 1
        return (i + (log_abar - table[i]) / (table[i + 1] - table[i])) / (len(table) - 1)


def _check_table(name: str, beta_start: float, beta_end: float, steps: int) -> None:
    if not (0 < beta_start <= beta_end < 1 and 2 <= steps <= 100_000):
        raise UserError(
            f"{name} needs 0 < beta_start <= beta_end < 1 and 2 <= steps <= 100000, got {beta_start}, {beta_end} and "
            f"{steps}; correct the field that is out of range"
        )


@curves.register("linear")
@dataclass(frozen=True)
class Linear(Tabulated):
    """beta_i from beta_start to beta_end in equal steps: Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 4.

    Raises:
        UserError: a beta outside (0, 1), or fewer than 2 steps.
    """

    beta_start: float = 1e-4
    beta_end: float = 0.02
    steps: int = 1000

    def __post_init__(self) -> None:
        _check_table("Linear", self.beta_start, self.beta_end, self.steps)

    def betas(self) -> Tensor:
        """(steps,) float64."""
        return torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)


@curves.register("scaled_linear")
@dataclass(frozen=True)
class ScaledLinear(Tabulated):
    """sqrt(beta_i) from sqrt(beta_start) to sqrt(beta_end) in equal steps: Rombach et al. 2022,
    https://arxiv.org/abs/2112.10752. The defaults are Stable Diffusion 1's; the paper's face models go from 0.0015 to
    0.0195.

    Raises:
        UserError: a beta outside (0, 1), or fewer than 2 steps.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps: int = 1000

    def __post_init__(self) -> None:
        _check_table("ScaledLinear", self.beta_start, self.beta_end, self.steps)

    def betas(self) -> Tensor:
        """(steps,) float64."""
        ends = math.sqrt(self.beta_start), math.sqrt(self.beta_end)
        return torch.linspace(*ends, self.steps, dtype=torch.float64) ** 2

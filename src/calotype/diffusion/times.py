"""Which times are visited: at random in training, on a grid in sampling.

A time sampler turns uniform numbers into one time per sample; a grid turns a number of steps into times that decrease
from noise to data. Both are values, so "DPM++(2M) Karras" is a pair of a sampler and a grid.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.registry import Registry
from calotype.types import Time


class TimeSampler(Protocol):
    """Where in time a training step looks."""

    @abstractmethod
    def __call__(self, u: Tensor) -> Time:
        """One time in (0, 1] per sample, float64 (B,), from u (B,) uniform in [0, 1)."""


time_samplers: Registry[TimeSampler] = Registry("time_sampler")

# torch draws u as multiples of 2^-24; half a unit keeps t off 0, where an error in eps is not defined, and off 1
_HALF_UNIT = 2.0**-25


@time_samplers.register("uniform")
@dataclass(frozen=True)
class UniformTimes(TimeSampler):
    """t ~ U(0, 1), independently."""

    def __call__(self, u: Tensor) -> Time:
        """t = u, moved to the middle of its cell."""
        return u.double() + _HALF_UNIT


@time_samplers.register("stratified")
@dataclass(frozen=True)
class StratifiedTimes(TimeSampler):
    """Row i draws from the i-th of B equal slices of (0, 1): a less noisy estimate of the same loss, since batches are
    shuffled. In the spirit of Kingma et al. 2021, https://arxiv.org/abs/2107.00630, appendix I.1."""

    def __call__(self, u: Tensor) -> Time:
        """t_i = (i + u_i) / B."""
        return (torch.arange(len(u), device=u.device) + u.double() + _HALF_UNIT) / len(u)


@time_samplers.register("discrete")
@dataclass(frozen=True)
class DiscreteTimes(TimeSampler):
    """t uniform over {1/T, ..., 1}, the entries of a table of T betas: what DDPM and Stable Diffusion train on.

    Raises:
        UserError: fewer than 1 step.
    """

    steps: int = 1000

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def __call__(self, u: Tensor) -> Time:
        """t = (floor(T u) + 1) / T."""
        return ((u.double() * self.steps).floor() + 1) / self.steps


class Grid(Protocol):
    """Where in time a sampling loop steps."""

    @abstractmethod
    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """`steps` + 1 strictly decreasing times, float64 on the CPU; the last is 0, the first is 1 or a little less.

        Start a loop from N(0, 1) noise times sigma(times[0]). Raises `UserError` for fewer than 1 step."""


grids: Registry[Grid] = Registry("grid")


@grids.register("uniform")
@dataclass(frozen=True)
class UniformGrid(Grid):
    """Equal steps in t, from 1 to 0. On a table of T betas these are the "trailing" indices of Lin et al. 2023,
    https://arxiv.org/abs/2305.08891, table 2."""

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """t_i = 1 - i / steps."""
        return torch.linspace(1, 0, _check_steps(steps) + 1, dtype=torch.float64)


@grids.register("karras")
@dataclass(frozen=True)
class Karras(Grid):
    """Equal steps in (sigma / alpha)^(1 / rho), then 0: Karras et al. 2022, https://arxiv.org/abs/2206.00364, eq. (5).

    Args:
        rho: larger means more steps at low noise.
        sigma_min, sigma_max: the range of sigma / alpha, cut to what the schedule offers.

    Raises:
        UserError: rho is not positive or the range is empty.
    """

    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not self.rho > 0:
            raise UserError(f"Karras needs rho > 0, got {self.rho}; the paper uses 7")
        _check_range(self.sigma_min, self.sigma_max)

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """The times at which sigma / alpha is (lerp of the ends to the power 1 / rho)^rho."""
        low, high = _offered(schedule, self.sigma_min, self.sigma_max)
        ramp = torch.linspace(high ** (1 / self.rho), low ** (1 / self.rho), _check_steps(steps), dtype=torch.float64)
        return _descend(schedule, self.rho * ramp.log())


@grids.register("logsnr")
@dataclass(frozen=True)
class LogSNRGrid(Grid):
    """Equal steps in log-SNR, then 0: Lu et al. 2022, https://arxiv.org/abs/2206.00927, section 3.1. Karras's grid for
    rho -> infinity.

    Args:
        sigma_min, sigma_max: the range of sigma / alpha, cut to what the schedule offers.

    Raises:
        UserError: the range is empty.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_range(self.sigma_min, self.sigma_max)

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """The times at which log(sigma / alpha) goes down in equal steps."""
        low, high = _offered(schedule, self.sigma_min, self.sigma_max)
        ramp = torch.linspace(math.log(high), math.log(low), _check_steps(steps), dtype=torch.float64)
        return _descend(schedule, ramp)


def _offered(schedule: Schedule, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    # The last noisy time is 1/1000 or later: the first entry of the usual table, below which no network was trained.
    ends = torch.tensor([1e-3, 1.0], dtype=torch.float64)
    low, high = (-schedule.logsnr(ends) / 2).exp().tolist()
    if not max(low, sigma_min) < min(high, sigma_max):
        raise UserError(
            f"the grid wants sigma/alpha in [{sigma_min}, {sigma_max}], the schedule has [{low:.3g}, {high:.3g}]; "
            "choose a range that overlaps it"
        )
    return max(low, sigma_min), min(high, sigma_max)


def _descend(schedule: Schedule, log_sigma: Tensor) -> Tensor:
    return torch.cat([schedule.time(-2 * log_sigma), log_sigma.new_zeros(1)])


def _check_steps(steps: int) -> int:
    if steps < 1:
        raise UserError(f"at least 1 step is needed, got {steps}; 20 to 50 is usual")
    return steps


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max:
        raise UserError(
            f"a grid needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}; the usual is 0.002 and 80"
        )

"""Which times sampling visits: decreasing from noise to data.

A grid turns a number of steps into times. It is a value of its own, so "DPM++(2M) Karras" is a pair of a sampler and a
grid.

    any curve       uniform, karras, logsnr, curve, enlarged
    tables only     trailing, leading, linspace: whole entries, as diffusers spaces its "timesteps"
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from calotype.diffusion.curves import Clamped, Cosine, Curve
from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.registry import Registry


class Grid(Protocol):
    """Where in time a sampling loop steps."""

    @abstractmethod
    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """`steps` + 1 strictly decreasing times, float64 on the CPU; the last is 0, the first is 1 or a little less.

        Start a loop from N(0, 1) noise times sigma(times[0]). Raises `UserError` for fewer than 1 step, and where the
        schedule has not what the grid asks for."""


grids: Registry[Grid] = Registry("grid")


@grids.register("uniform")
@dataclass(frozen=True)
class UniformGrid(Grid):
    """Equal steps in t, from 1 to 0. On a table of T betas these are the "trailing" indices of Lin et al. 2023,
    https://arxiv.org/abs/2305.08891, table 2; where steps does not divide T they lie between entries, and `Trailing`
    rounds them.

    Raises:
        UserError: when called, more steps than the table has entries.
    """

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """t_i = 1 - i / steps."""
        entries = schedule.curve.entries
        if entries is not None and steps > entries:
            raise UserError(
                f"{steps} steps were asked of a table with {entries} entries, between which no network was trained; "
                f"take {entries} at most"
            )
        return torch.linspace(1, 0, _check_steps(steps) + 1, dtype=torch.float64)


@grids.register("karras")
@dataclass(frozen=True)
class Karras(Grid):
    """Equal steps in (sigma / alpha)^(1 / rho), then 0: Karras et al. 2022, https://arxiv.org/abs/2206.00364, eq. (5).

    Args:
        rho: larger means more steps at low noise.
        sigma_min, sigma_max: the range of sigma / alpha, cut to what the schedule offers.

    Raises:
        UserError: rho is not positive or the range is empty; when called, the schedule has nothing of the range, or no
            signal at t = 1 and the range no end.
    """

    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.rho < math.inf:
            raise UserError(f"Karras needs rho > 0, got {self.rho}; the paper uses 7")
        _check_range(self.sigma_min, self.sigma_max)

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """The times at which sigma / alpha is (lerp of the ends to the power 1 / rho)^rho."""
        low, high = _offered(schedule, self.sigma_min, self.sigma_max)
        # by the largest of them, for large numbers to large powers overflow
        ramp = torch.linspace(1, (low / high) ** (1 / self.rho), _check_steps(steps), dtype=torch.float64)
        return _descend(schedule, math.log(high) + self.rho * ramp.log())


@grids.register("logsnr")
@dataclass(frozen=True)
class LogSNRGrid(Grid):
    """Equal steps in log-SNR, then 0: Lu et al. 2022, https://arxiv.org/abs/2206.00927, section 3.1. Karras's grid for
    rho -> infinity.

    Args:
        sigma_min, sigma_max: the range of sigma / alpha, cut to what the schedule offers.

    Raises:
        UserError: the range is empty; when called, the schedule has nothing of the range, or no signal at t = 1 and
            the range no end.
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


@grids.register("curve")
@dataclass(frozen=True)
class CurveGrid(Grid):
    """The noise levels that another curve has at equal steps in its time, so a network trained on one schedule is
    sampled as on another.

    SD3's shifted sampling is `CurveGrid(Shifted.by_timestep(Flow(), 3))` (Esser et al. 2024,
    https://arxiv.org/abs/2403.03206, section 5.3.2); a model trained on `Laplace` keeps the levels of a cosine
    (Hang et al. 2024, https://arxiv.org/abs/2407.03297). The schedule's own curve gives `UniformGrid`.

    Args:
        curve: whose levels, cut to the range that the schedule offers too.

    Raises:
        UserError: when called, if the two have no log-SNR in common.
    """

    curve: Curve = field(default_factory=Cosine)

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """schedule.time(curve.logsnr(s)) for steps + 1 equidistant s; the last is 0."""
        start, end = self.curve.time(schedule.logsnr(torch.tensor([1.0, 0.0], dtype=torch.float64))).tolist()
        if not end < start:
            raise UserError(f"{self.curve} and {schedule.curve} have no noise level in common; choose another curve")
        s = torch.linspace(start, end, _check_steps(steps) + 1, dtype=torch.float64)
        return _to_zero(schedule, schedule.time(self.curve.logsnr(s[:-1])))


@grids.register("enlarged")
@dataclass(frozen=True)
class Enlarged(Grid):
    """Another grid's noise levels, sigma / alpha times m: for samples whose sides are m times those of training.

    Averaged back to the size of training, these have the levels that the grid was made for: the shift of log-SNR by
    -2 log m that `Shifted.by_side` trains with, here for a model that was trained without. Network and schedule stay,
    only the steps move towards noise. On `Flow`, `Enlarged(UniformGrid(), m)` is SD3's shifted sampling, t to
    m t / (1 + (m - 1) t): Esser et al. 2024, https://arxiv.org/abs/2403.03206, eq. (23).

    The levels stay within those of the schedule: of the grid, only what the shift leaves there is stepped over. On a
    table they fall between entries, so the grids that step over entries are refused.

    Args:
        grid: for the size of training.
        factor: m; the root of the ratio of areas where height and width grow differently. 1 is `grid` itself.

    Raises:
        UserError: a factor below 1 or not finite; when called, what `grid` raises, or a schedule without so much noise.
    """

    grid: Grid = field(default_factory=Karras)
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.factor < math.inf:
            raise UserError(
                f"Enlarged needs a finite factor of at least 1, got {self.factor}; it is the side of the samples over "
                "that of training, and smaller samples than those take the grid as it is"
            )

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """schedule.time(logsnr - 2 log m) of the grid's times on that part of the schedule which stays in its range."""
        if self.factor == 1:
            return self.grid(schedule, steps)
        shift = 2 * math.log(self.factor)
        end = float(schedule.logsnr(torch.ones((), dtype=torch.float64)))
        part = Schedule(Clamped(schedule.curve, end + shift, None), schedule.path)
        return _to_zero(schedule, schedule.time(part.logsnr(self.grid(part, steps)[:-1]) - shift))


@grids.register("trailing")
@dataclass(frozen=True)
class Trailing(Grid):
    """Entries round(T - i T / steps) - 1, then 0: diffusers' "trailing"; Lin et al. 2023,
    https://arxiv.org/abs/2305.08891, table 2. `UniformGrid` where steps divides T, with whole entries where not.
    For some numbers of steps, 61 of 1000 entries among them, diffusers' list ends with an entry -1 too many, which is
    left out here.

    Raises:
        UserError: when called, if the schedule is no table, or has fewer entries than steps.
    """

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """t = round(T - i T / steps) / T."""
        entries = _entries(schedule, steps, "trailing")
        # differences of floats as numpy's arange takes them: where the exact index is half an integer, they decide
        step = (entries - entries / steps) - entries
        index = (entries + torch.arange(steps, dtype=torch.float64) * step).round() - 1
        return _at_entries(index, entries, steps, "trailing")


@grids.register("leading")
@dataclass(frozen=True)
class Leading(Grid):
    """Entries k floor(T / n) + offset for n = steps, descending, then 0: diffusers' "leading".

    The noisiest entries are left out, the more the fewer the steps (table 2 of Lin et al. 2023,
    https://arxiv.org/abs/2305.08891, tells what that costs), so this is for reproducing models that were sampled so.
    The paper code of DDIM and latent diffusion has it with offset 1, and takes more steps than asked where n does not
    divide T.

    Args:
        offset: diffusers' `steps_offset`; 1 for Stable Diffusion.
        skip_first: n = steps + 1, without its cleanest entry, as diffusers' multistep solvers (DPM-Solver, DEIS).

    Raises:
        UserError: a negative offset; when called, if the schedule is no table, or has too few entries.
    """

    offset: int = 0
    skip_first: bool = False

    def __post_init__(self) -> None:
        if self.offset < 0:
            raise UserError(f"Leading needs an offset of at least 0, got {self.offset}; Stable Diffusion's is 1")

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """t = (k floor(T / n) + offset + 1) / T."""
        entries, first = _entries(schedule, steps, "leading"), int(self.skip_first)
        k = torch.arange(steps - 1, -1, -1, dtype=torch.float64) + first
        return _at_entries(k * (entries // (steps + first)) + self.offset, entries, steps, "leading")


@grids.register("linspace")
@dataclass(frozen=True)
class Linspace(Grid):
    """Entries from T - 1 to 0 in equal steps, then t = 0: diffusers' "linspace"; one step is entry 0 alone.

    Args:
        rounded: to whole entries. diffusers' Euler, Heun and LMS do not round.
        skip_first: without entry 0, by steps of (T - 1) / steps, as diffusers' multistep solvers (DPM-Solver, DEIS,
            UniPC).

    Raises:
        UserError: when called, if the schedule is no table, or has too few entries.
    """

    rounded: bool = True
    skip_first: bool = False

    def __call__(self, schedule: Schedule, steps: int) -> Tensor:
        """t = (k (T - 1) / (n - 1) + 1) / T, k = n - 1, ..., for n = steps, or steps + 1 without the last."""
        entries, first = _entries(schedule, steps, "linspace"), int(self.skip_first)
        k = torch.arange(steps + first - 1, -1, -1, dtype=torch.float64)[:steps]
        # a multiple of the step as numpy's linspace has it: where the exact index is half an integer, it decides
        index = (k * ((entries - 1) / max(steps + first - 1, 1))).clamp(max=entries - 1)
        return _at_entries(index.round() if self.rounded else index, entries, steps, "linspace")


def _entries(schedule: Schedule, steps: int, name: str) -> int:
    _check_steps(steps)
    entries = schedule.curve.entries
    if entries is None:
        raise UserError(
            f"the grid {name!r} steps over the entries of a table, and {schedule.curve} is none; take 'uniform'"
        )
    if steps > entries:
        raise UserError(
            f"{steps} steps were asked of a table with {entries} entries; the grid {name!r} takes {entries} at most"
        )
    return entries


def _at_entries(index: Tensor, entries: int, steps: int, name: str) -> Tensor:
    """The times of these entries (steps,), then 0."""
    if index[0] > entries - 1 or not bool((index.diff() < 0).all()):
        raise UserError(
            f"{steps} steps of the grid {name!r} do not fit on a table with {entries} entries; take fewer steps, "
            "offset 0 or the grid 'trailing'"
        )
    return torch.cat([(index.double() + 1) / entries, torch.zeros(1, dtype=torch.float64)])


def _offered(schedule: Schedule, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    # The last noisy time is a table's first entry or later, as below it no network was trained; 1/1000 without a table.
    ends = torch.tensor([1 / (schedule.curve.entries or 1000), 1.0], dtype=torch.float64)
    low, high = (-schedule.logsnr(ends) / 2).exp().tolist()
    if not max(low, sigma_min) < min(high, sigma_max):
        raise UserError(
            f"the grid wants sigma/alpha in [{sigma_min}, {sigma_max}], the schedule has [{low:.3g}, {high:.3g}]; "
            "choose a range that overlaps it"
        )
    if min(high, sigma_max) == math.inf:
        raise UserError(
            f"{schedule.curve} has no signal at t = 1, so sigma/alpha has no largest value there; give the grid a "
            "finite sigma_max (80 is usual), or take the grid 'uniform', which begins at t = 1"
        )
    return max(low, sigma_min), min(high, sigma_max)


def _descend(schedule: Schedule, log_sigma: Tensor) -> Tensor:
    return _to_zero(schedule, schedule.time(-2 * log_sigma))


def _to_zero(schedule: Schedule, times: Tensor) -> Tensor:
    """These times (steps,), then 0."""
    times = torch.cat([times, times.new_zeros(1)])
    if not bool((times.diff() < 0).all()):
        raise UserError(
            f"{len(times) - 1} steps over these noise levels lie too close together in the time of {schedule.curve} to "
            "be told apart; take fewer steps, a narrower range, or the grid 'uniform'"
        )
    return times


def _check_steps(steps: int) -> int:
    if steps < 1:
        raise UserError(f"at least 1 step is needed, got {steps}; 20 to 50 is usual")
    return steps


def _check_range(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max:
        raise UserError(
            f"a grid needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}; the usual is 0.002 and 80"
        )

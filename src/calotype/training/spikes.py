"""A single bad batch can throw weights far away; its gradient is seen to be too long before the step is taken.

A step is left out if the logarithm of its gradient norm lies more than `sigmas` standard deviations above the running
mean, both over about `window` steps. Norms that are left out do not enter the means, so that a spike does not make the
next one look ordinary; after `most` in a row it is taken for a new level (a loss was switched on), and counted.

Clipping alone would still take the whole direction from the bad batch, and keep it in the moments of Adam.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SpikeGuard:
    """When a gradient is too long to be followed.

    Args:
        sigmas: standard deviations of the logarithm that are still ordinary.
        window: steps that the running means look back on; until so many are seen, nothing is left out.
        most: steps left out in a row.
        least: the smallest factor over the mean that can be a spike, however regular the norms have been.
    """

    sigmas: float = 6.0
    window: int = 100
    most: int = 3
    least: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.sigmas < math.inf:
            raise ValueError(f"sigmas must be positive, got {self.sigmas}")
        if not 2 <= self.window <= 2**20:
            raise ValueError(f"window must lie in 2 ... {2**20:,} steps, got {self.window}")
        if self.most < 1:
            raise ValueError(f"most must be at least 1, got {self.most}")
        if not 1 <= self.least < math.inf:
            raise ValueError(f"least must be at least 1, got {self.least}")


class Spikes:
    """The running means of one optimizer's gradient norms."""

    def __init__(self, guard: SpikeGuard) -> None:
        self.guard = guard
        self._mean, self._variance, self._seen, self._row = 0.0, 0.0, 0, 0

    def found(self, norm: float) -> bool:
        """Whether a step with this (finite) gradient norm should be left out; counts it if not."""
        guard, value = self.guard, math.log(max(norm, 1e-30))
        above = value - self._mean
        usual = max(guard.sigmas * math.sqrt(self._variance), math.log(guard.least))
        if self._seen >= guard.window and above > usual and self._row < guard.most:
            self._row += 1
            return True
        if self._row == guard.most and above > usual:
            self._mean, self._variance, self._seen = 0.0, 0.0, 0  # a new level: learn it from the beginning
        self._row = 0
        self._seen += 1
        share = 1 / min(self._seen, guard.window)
        step = value - self._mean
        self._mean += share * step
        self._variance = (1 - share) * (self._variance + share * step * step)
        return False

    @property
    def usual(self) -> float:
        """The geometric mean of the norms."""
        return math.exp(self._mean)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"mean": self._mean, "variance": self._variance, "seen": self._seen, "row": self._row}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self._mean, self._variance = float(state["mean"]), float(state["variance"])
        self._seen, self._row = int(state["seen"]), int(state["row"])

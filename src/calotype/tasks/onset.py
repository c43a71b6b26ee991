"""When the discriminator begins: at a step, at a fraction of the run, or when reconstruction has stopped improving.

A critic that is switched on too early ruins what the autoencoder has not learned yet.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from calotype import ranks
from calotype.registry import Registry
from calotype.tasks.base import Progress


class Onset(nn.Module, ABC):
    """Says since when the discriminator learns. What it remembers are buffers, so that a stop changes nothing."""

    @abstractmethod
    def begun(self, progress: Progress, error: Tensor) -> float | None:
        """The step at which the discriminator began, or None before.

        Args:
            progress: now.
            error: this step's reconstruction error, a scalar without gradient. Called once per step.
        """


@runtime_checkable
class OnsetConfig(Protocol):
    """What an onset is built from; a registered frozen dataclass."""

    def build(self) -> Onset:
        """A fresh one."""
        ...


onsets: Registry[OnsetConfig] = Registry("onset", "calotype.tasks")


class Fixed(Onset):
    """Begins at a known step."""

    def __init__(self, step: float, relative: bool) -> None:
        super().__init__()
        self._step, self._relative = step, relative

    def begun(self, progress: Progress, error: Tensor) -> float | None:
        """See the base class."""
        step = self._step * progress.total if self._relative else self._step
        return step if progress.step >= step else None


@onsets.register("step")
@dataclass(frozen=True)
class AtStep:
    """The discriminator begins at a step ("disc_start").

    Args:
        step: counted from 0.
    """

    step: int = 50_001

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step must be >= 0, got {self.step}")

    def build(self) -> Fixed:
        """A fresh one."""
        return Fixed(self.step, relative=False)


@onsets.register("fraction")
@dataclass(frozen=True)
class AtFraction:
    """The discriminator begins when a fraction of the run is over.

    Args:
        fraction: in [0, 1]; 1 = never.
    """

    fraction: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction must lie in [0, 1], got {self.fraction}")

    def build(self) -> Fixed:
        """A fresh one."""
        return Fixed(self.fraction, relative=True)


class Plateau(Onset):
    """Begins when a window's mean error is not better than that of the window before by more than a tolerance.

    Buffers: "sums" (2,) float64, the error's sum over the last whole window and over the present one; "counts" (2,),
    the steps in both; "since", the step at which it began, -1 before.
    """

    sums: Tensor
    counts: Tensor
    since: Tensor

    def __init__(self, config: AtPlateau) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("sums", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.long))
        self.register_buffer("since", torch.tensor(-1))

    @torch.no_grad()
    def begun(self, progress: Progress, error: Tensor) -> float | None:
        """See the base class."""
        since = int(self.since)
        if since >= 0:
            return since
        self.sums[1] += error.double()
        self.counts[1] += 1
        late = progress.fraction >= self.config.latest
        if late or (int(self.counts[1]) == self.config.window and self._flat()):
            self.since.fill_(progress.step)
        if int(self.counts[1]) == self.config.window:
            self.sums.copy_(torch.stack([self.sums[1], self.sums.new_zeros(())]))
            self.counts.copy_(torch.stack([self.counts[1], self.counts.new_zeros(())]))
        return progress.step if late or int(self.since) >= 0 else None

    def _flat(self) -> bool:
        if int(self.counts[0]) == 0:
            return False
        before, now = (ranks.mean(self.sums) / self.counts).tolist()
        return bool(now > before * (1 - self.config.tolerance))


@onsets.register("plateau")
@dataclass(frozen=True)
class AtPlateau:
    """The discriminator begins when reconstruction has stopped improving.

    Args:
        window: steps whose mean error is compared with that of the window before.
        tolerance: the smallest relative improvement that still counts as one.
        latest: fraction of the run at which it begins in any case.
    """

    window: int = 200
    tolerance: float = 0.02
    latest: float = 0.8

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance must be >= 0, got {self.tolerance}")
        if not 0 <= self.latest <= 1:
            raise ValueError(f"latest must lie in [0, 1], got {self.latest}")

    def build(self) -> Plateau:
        """A fresh one."""
        return Plateau(self)

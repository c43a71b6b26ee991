"""What is trained: a task yields one loss per optimizer.

`losses` is a generator. The trainer runs backward and that phase's optimizer step *between* two yields, so an
adversarial task computes a reconstruction once, yields the generator's loss, and then yields the discriminator's loss
on the same, detached, reconstruction. Local variables replace hidden state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from calotype.rng import Draws
from calotype.types import Batch, Metrics


@dataclass(frozen=True)
class Progress:
    """Where training is: `step` of `total` optimizer steps, counted from 0."""

    step: int
    total: int

    @property
    def fraction(self) -> float:
        """0 at the start, 1 at the end."""
        return self.step / max(1, self.total)


@dataclass(frozen=True)
class Loss:
    """One scalar to minimise by the optimizer of `phase`, with what to log beside it.

    Args:
        phase: whose optimizer.
        value: the scalar.
        metrics: numbers to log.
        warnings: sentences for the person who trains.
    """

    phase: str
    value: Tensor
    metrics: Metrics = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Task(nn.Module, ABC):
    """A training objective. Subclasses are final."""

    phases: ClassVar[tuple[str, ...]]
    """One optimizer each, in the order in which `losses` yields."""

    ema: ClassVar[tuple[str, ...]] = ()
    """The phases whose trainable module is also averaged over time."""

    @abstractmethod
    def trainable(self, phase: str) -> nn.Module:
        """The module that this phase's optimizer owns, which is also what a checkpoint holds."""

    @abstractmethod
    def losses(self, batch: Batch, progress: Progress, draws: Draws) -> Iterator[Loss]:
        """Yield one `Loss` per phase, in order; see the module docstring."""

    @abstractmethod
    def preview(self, batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        """Pictures that show how training goes: name -> (N, 3, H, W) in [-1, 1]."""

"""How weights move: AdamW with a learning rate that warms up and decays.

    lr(step) = lr * min(1, (step + 1) / warmup_steps) * decay(step / total)

AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) in PyTorch's fused form, which reads every weight
once. With `weight_decay = 0` it is Adam.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from calotype.registry import Registry
from calotype.training.spikes import SpikeGuard


class Decay(Protocol):
    """The learning rate over the run. Members are frozen dataclasses."""

    def __call__(self, fraction: float) -> float:
        """Fraction of the run in [0, 1] -> factor of the learning rate in [0, 1]."""
        ...


decays: Registry[Decay] = Registry("decay")


@decays.register("constant")
@dataclass(frozen=True)
class Constant:
    """1 throughout."""

    def __call__(self, fraction: float) -> float:
        """The factor at this fraction of the run."""
        return 1.0


@decays.register("cosine")
@dataclass(frozen=True)
class Cosine:
    """floor + (1 - floor) (1 + cos(pi f)) / 2. Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, eq. (5).

    Args:
        floor: the factor at the end.
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f"floor must lie in [0, 1], got {self.floor}")

    def __call__(self, fraction: float) -> float:
        """The factor at this fraction of the run."""
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, fraction))))


@decays.register("linear")
@dataclass(frozen=True)
class Linear:
    """1 until `start`, then straight down to `floor` at the end.

    Args:
        start: fraction of the run at which the decay begins.
        floor: the factor at the end.
    """

    start: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.start < 1.0 and 0.0 <= self.floor <= 1.0):
            raise ValueError(f"start must lie in [0, 1) and floor in [0, 1], got {self.start} and {self.floor}")

    def __call__(self, fraction: float) -> float:
        """The factor at this fraction of the run."""
        return 1.0 - (1.0 - self.floor) * min(1.0, max(0.0, (fraction - self.start) / (1.0 - self.start)))


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW for one phase.

    Args:
        lr: the highest learning rate.
        betas: decay of the gradient's first and second moment.
        eps: added to the root of the second moment.
        weight_decay: per step and unit of learning rate; only for tensors with at least two axes, since pulling
            biases and normalisation gains to zero has no use.
        warmup_steps: steps over which the rate rises linearly; 0 = none.
        decay: factor over the run.
        clip_norm: longest allowed gradient, all parameters of the phase together; None = no limit.
        spikes: when a step is left out because its gradient is far longer than usual; None = never.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    warmup_steps: int = 0
    decay: Decay = field(default_factory=Constant)
    clip_norm: float | None = 1.0
    spikes: SpikeGuard | None = field(default_factory=SpikeGuard)

    def __post_init__(self) -> None:
        if not 0.0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if not all(0.0 <= b < 1.0 for b in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")
        if not (0.0 < self.eps < math.inf and 0.0 <= self.weight_decay < math.inf):
            raise ValueError(f"eps must be positive and weight_decay >= 0, got {self.eps} and {self.weight_decay}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be >= 0, got {self.warmup_steps}")
        if self.clip_norm is not None and not 0.0 < self.clip_norm < math.inf:
            raise ValueError(f"clip_norm must be positive, got {self.clip_norm}; use null for no limit")

    def rate(self, step: int, total: int) -> float:
        """The learning rate of step `step` (counted from 0) of `total`."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.lr * warm * self.decay(step / max(1, total))

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """The optimizer of these parameters; raises `ValueError` if there are none."""
        parameters = list(parameters)
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        groups = [g for g in groups if g["params"]]
        if not groups:
            raise ValueError("there is nothing to train: no parameter requires a gradient")
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

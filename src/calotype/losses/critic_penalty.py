"""What keeps a discriminator from growing too sure of itself; optional.

With few pictures a discriminator soon knows them by heart, and what it then tells the decoder is noise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype import ranks
from calotype.registry import Registry


class CriticPenalty(nn.Module, ABC):
    """A term of the discriminator's loss; its buffers belong to checkpoints."""

    differentiates: ClassVar[bool]
    """Whether it needs the gradient of the logits with respect to the real pictures."""

    @abstractmethod
    def forward(self, x: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        """A scalar, of real pictures x (B, 3, H, W) and the logits (B, 1, h, w) of real and reconstructed ones."""


@runtime_checkable
class CriticPenaltyConfig(Protocol):
    """What a penalty is built from; a registered frozen dataclass."""

    def build(self) -> CriticPenalty:
        """A fresh penalty."""
        ...


critic_penalties: Registry[CriticPenaltyConfig] = Registry("critic_penalty", "calotype.losses", CriticPenaltyConfig)


class R1(CriticPenalty):
    """weight / 2 * mean over pictures of | d sum_p D_p(x) / dx |^2 / P, P the number of patches.

    Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, eq. (9), per patch: without the division the weight would
    mean something else at every picture size.
    """

    differentiates = True

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        """See the class; x must require a gradient."""
        (g,) = torch.autograd.grad(real.sum(), x, create_graph=True)
        return 0.5 * self.weight * g.square().sum((1, 2, 3)).mean() / real[0].numel()


@critic_penalties.register("r1")
@dataclass(frozen=True)
class R1Config:
    """The squared gradient of the discriminator at real pictures: config of `R1`.

    Args:
        weight: gamma of the paper.
    """

    weight: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be positive, got {self.weight}")

    def build(self) -> R1:
        """A fresh penalty."""
        return R1(self.weight)


class LeCam(CriticPenalty):
    """weight (mean relu(D(x) - a_fake)^2 + mean relu(a_real - D(x_hat))^2), a = running means of the logits.

    Tseng et al. 2021, https://arxiv.org/abs/2104.03310, eq. (5), with the hinge of their implementation: only logits
    that lie on the far side of the other anchor are pulled back.

    Buffers: "anchors" (2,), running means of D(x) and D(x_hat); "batches", how many they have seen.
    """

    differentiates = False
    anchors: Tensor
    batches: Tensor

    def __init__(self, weight: float, decay: float) -> None:
        super().__init__()
        self.weight, self.decay = weight, decay
        self.register_buffer("anchors", torch.zeros(2))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        """See the class; moves the running means first."""
        with torch.no_grad():
            now = ranks.mean(torch.stack([real.mean(), fake.mean()])).to(self.anchors)
            # The first batch sets the anchors: zeros are no logits that anybody gave.
            share = torch.where(self.batches == 0, 1.0, 1.0 - self.decay)
            self.anchors.lerp_(now, share.to(now))
            self.batches += 1
        a_real, a_fake = self.anchors
        return self.weight * (F.relu(real - a_fake).square().mean() + F.relu(a_real - fake).square().mean())


@critic_penalties.register("lecam")
@dataclass(frozen=True)
class LeCamConfig:
    """Distance to running means of the logits of the other side: config of `LeCam`.

    Args:
        weight: lambda of the paper.
        decay: of the running means.
    """

    weight: float = 0.3
    decay: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be positive, got {self.weight}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")

    def build(self) -> LeCam:
        """A fresh penalty."""
        return LeCam(self.weight, self.decay)

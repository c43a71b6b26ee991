"""What limits the information in a latent.

A bottleneck turns the encoder's feature map h into a `Code`: the latent, penalties that join the loss, numbers to log.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from calotype.autoencoder.bottleneck.usage import Usage
from calotype.registry import Registry
from calotype.types import Latent, Metrics, Noise


@dataclass(frozen=True)
class Code:
    """What a picture is coded as, and what that costs.

    Args:
        z: the latent (B, C, h, w), as the diffusion model sees it.
        read: what the decoder reads: `z`, unless the code is discrete.
        rate: weighted information per picture, a sum over C, h, w and a mean over B; the loss divides it by the number
            of the picture's values, as it does with the reconstruction error.
        penalties: weighted terms that are means over elements, and join the loss as they are.
        metrics: numbers to log.
    """

    z: Latent
    read: Latent
    rate: Tensor | None = None
    penalties: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)


class Bottleneck(nn.Module, ABC):
    """h (B, incoming, h, w) -> Code with z (B, channels, h, w)."""

    incoming: int
    channels: int
    usage: Usage | None
    """How much of its codebook a discrete code uses in training; None if there is no codebook."""

    @abstractmethod
    def forward(self, h: Tensor, noise: Noise | None = None) -> Code:
        """The code of h; `noise=None` takes the mode instead of a sample."""

    @abstractmethod
    def moments(self, h: Tensor) -> tuple[Latent, Latent]:
        """Mean and standard deviation of the latent's distribution."""

    def project(self, z: Latent) -> Latent:
        """What the decoder does first with any latent; the identity unless the code is discrete."""
        return z


@runtime_checkable
class BottleneckConfig(Protocol):
    """What a bottleneck is built from."""

    def build(self, channels: int) -> Bottleneck:
        """A bottleneck that yields this many latent channels."""
        ...


bottlenecks: Registry[BottleneckConfig] = Registry("bottleneck", "calotype.autoencoder.bottleneck")

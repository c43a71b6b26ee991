"""The FSQ bottleneck: every channel of the latent is rounded to a few levels; the codebook is their grid.

Mentzer et al. 2023, https://arxiv.org/abs/2309.15505. There is no codebook to learn and none to collapse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.autoencoder.bottleneck.base import Bottleneck, Code, bottlenecks
from calotype.autoencoder.bottleneck.usage import Usage, perplexity
from calotype.types import Latent, Noise

MOST_CODES = 2**20

REMEDY = "the encoder's outputs hardly vary: train longer, or start anew with fewer autoencoder.bottleneck.levels"
"""Against a collapse."""


class FiniteScalar(Bottleneck):
    """z = bound(h), the decoder reads round(z), with the gradient passed straight through.

    bound(h) = tanh(h + shift) .999 (L - 1) / 2 - offset, where offset is 1/2 for even L, so that L integers can be
    reached, and shift makes bound(0) = 0; then both are divided by floor(L / 2) to lie in [-1, 1].
    """

    levels: Tensor
    usage: Usage

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = self.incoming = len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.usage = Usage(math.prod(levels), REMEDY)

    def forward(self, h: Tensor, noise: Noise | None = None) -> Code:
        """A discrete code has no noise."""
        z = self._bound(h)
        index = self.indices(z).flatten()
        if self.training and torch.is_grad_enabled():  # looking (previews, measurements) changes nothing
            self.usage.count(index)
        n = torch.bincount(index, minlength=math.prod(self.levels.tolist())).float()
        metrics = {"perplexity": perplexity(n), "codes_used": (n > 0).float().mean()}
        return Code(z, self.project(z), metrics=metrics)

    def moments(self, h: Tensor) -> tuple[Latent, Latent]:
        """The bounded h before rounding; it has no spread."""
        z = self._bound(h)
        return z, torch.zeros_like(z)

    def project(self, z: Latent) -> Latent:
        """The nearest grid points of any latent."""
        return z + (self._digits(z) / self._half(z) - z).detach()

    def indices(self, z: Latent) -> Tensor:
        """The codes' numbers, (B, h, w), the first channel the least significant digit."""
        digits = (self._digits(z) + self._half(z)).long()
        places = torch.cat([self.levels.new_ones(1), self.levels[:-1].cumprod(0)])
        return (digits * places.view(-1, 1, 1)).sum(1)

    def _half(self, like: Tensor) -> Tensor:
        return (self.levels // 2).to(like).view(-1, 1, 1)

    def _bound(self, h: Tensor) -> Tensor:
        h = h.float()
        levels = self.levels.to(h).view(-1, 1, 1)
        reach, offset = (levels - 1) / 2 * 0.999, (levels + 1) % 2 / 2
        return ((h + (offset / reach).atanh()).tanh() * reach - offset) / self._half(h)

    def _digits(self, z: Tensor) -> Tensor:
        half = self._half(z)
        top = self.levels.to(z).view(-1, 1, 1) - 1 - half
        return torch.minimum(torch.maximum((z * half).round(), -half), top)


@bottlenecks.register("finite_scalar")
@dataclass(frozen=True)
class FiniteScalarConfig:
    """Each channel rounded to a few levels: config of `FiniteScalar`.

    Args:
        levels: per channel, at least 3 (with two, the middle of tanh could not be a level); their product is the number
            of codes. The paper's table 1 suggests (8, 6, 5) for 2^8 codes, (8, 5, 5, 5) for 2^10, (7, 5, 5, 5, 5) for
            2^12, (8, 8, 8, 5, 5, 5) for 2^16.

    Raises:
        ValueError: a channel with fewer than three levels, more than 2^20 codes.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        if not self.levels or any(not 3 <= n <= 4096 for n in self.levels) or math.prod(self.levels) > MOST_CODES:
            raise ValueError(f"levels must be 3 or more each and make at most {MOST_CODES:,} codes, got {self.levels}")

    def build(self, channels: int) -> FiniteScalar:
        """A bottleneck; raises `ValueError` if there are not as many levels as latent channels."""
        if channels != len(self.levels):
            raise ValueError(f"{len(self.levels)} levels were given for {channels} latent channels; give one for each")
        return FiniteScalar(self.levels)

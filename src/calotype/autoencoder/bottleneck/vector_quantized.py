"""The VQ bottleneck: every position of the latent is one of K codes.

Esser et al. 2021 (VQGAN), https://arxiv.org/abs/2012.09841; van den Oord et al. 2017, https://arxiv.org/abs/1711.00937.

The quantiser belongs to the decoder (Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1): the latent
that the diffusion model sees is the one before quantisation, and whatever it produces is quantised when it is decoded.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from calotype import ranks
from calotype.autoencoder.bottleneck.base import Bottleneck, Code, bottlenecks
from calotype.autoencoder.bottleneck.codebook import COUNT_DECAY, Codebook
from calotype.autoencoder.bottleneck.usage import Usage, perplexity
from calotype.nn.sizes import WIDEST, check_sizes
from calotype.registry import Registry
from calotype.types import Latent, Noise


class CodebookLearning(Protocol):
    """How codes follow the vectors that chose them."""

    learned: bool
    """Whether by gradient: the codes are a parameter."""

    @abstractmethod
    def penalty(self, v: Tensor, e: Tensor, beta: float) -> Tensor:
        """The mean over elements that joins the loss, for vectors v (N, d) and their codes e (N, d)."""

    @abstractmethod
    def follow(self, codebook: Codebook, v: Tensor, index: Tensor) -> None:
        """What happens to the codes outside of gradients, for vectors v (N, d) and choices (N,), not counted yet."""


learnings: Registry[CodebookLearning] = Registry("codebook", "calotype.autoencoder.bottleneck")


@learnings.register("gradient")
@dataclass(frozen=True)
class ByGradient(CodebookLearning):
    """|sg(v) - e|^2 + beta |v - sg(e)|^2: van den Oord et al. 2017, eq. (3).

    Args:
        legacy: beta weighs the first term instead of the second, as in the released VQGAN and LDM weights, where it
            was a mistake. It does not change what a finished model computes.
    """

    legacy: bool = False
    learned = True

    def penalty(self, v: Tensor, e: Tensor, beta: float) -> Tensor:
        """Both terms."""
        codebook, commitment = (v.detach() - e).square().mean(), (v - e.detach()).square().mean()
        return beta * codebook + commitment if self.legacy else codebook + beta * commitment

    def follow(self, codebook: Codebook, v: Tensor, index: Tensor) -> None:
        """Nothing: the optimizer does it."""


@learnings.register("moving_average")
@dataclass(frozen=True)
class MovingAverage(CodebookLearning):
    """e_j = running mean of the vectors that chose j; beta |v - sg(e)|^2 stays in the loss.

    van den Oord et al. 2017, appendix A.1: m_j <- g m_j + (1 - g) sum of the vectors, N_j <- g N_j + (1 - g) n_j,
    e_j = m_j / N_j, here as a step of e_j towards the batch's mean by its share in the new count. Codes that were not
    chosen stay where they are, which is what Laplace smoothing of N_j is for elsewhere.
    """

    learned = False

    def penalty(self, v: Tensor, e: Tensor, beta: float) -> Tensor:
        """The commitment."""
        return beta * (v - e.detach()).square().mean()

    @torch.no_grad()
    def follow(self, codebook: Codebook, v: Tensor, index: Tensor) -> None:
        """The running means."""
        n, used = ranks.total(codebook.choices(index)), codebook.used
        means = ranks.total(torch.zeros_like(codebook.codes).index_add_(0, index, v)) / n.clamp_min(1)[:, None]
        share = (1 - COUNT_DECAY) * n / (COUNT_DECAY * used + (1 - COUNT_DECAY) * n).clamp_min(1e-12)
        codebook.codes.lerp_(means, share[:, None])


REMEDY = (
    "start anew with fewer codes (autoencoder.bottleneck.size), move unused ones (autoencoder.bottleneck.revive=0.1), "
    "let codes follow means (autoencoder.bottleneck.learning=moving_average), or search in a small space "
    "(autoencoder.bottleneck.width=8 autoencoder.bottleneck.cosine=true)"
)
"""Against a collapse."""


class VectorQuantized(Bottleneck):
    """h (B, C, h, w) -> the codes nearest to its vectors, with the gradient passed straight through."""

    usage: Usage

    def __init__(self, config: VectorQuantizedConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.channels = self.incoming = channels
        width = config.width or channels
        self.down: nn.Module = nn.Identity() if config.width is None else nn.Conv2d(channels, width, 1)
        self.up: nn.Module = nn.Identity() if config.width is None else nn.Conv2d(width, channels, 1)
        self.codebook = Codebook(
            config.size, width, learned=config.learning.learned, revive=config.revive, cosine=config.cosine
        )
        self.usage = Usage(config.size, REMEDY)

    def forward(self, h: Tensor, noise: Noise | None = None) -> Code:
        """The latent is h itself; the decoder reads codes. A discrete code has no noise."""
        small, v = self._vectors(h)
        learning = self.training and torch.is_grad_enabled()  # looking (previews, measurements) changes nothing
        if learning:
            self.codebook.attend(v.detach())
        index = self.codebook.nearest(v.detach())
        e = self.codebook.table()[index]
        penalty = self.config.weight * self.config.learning.penalty(v, e, self.config.beta)
        if learning:
            self.config.learning.follow(self.codebook, v.detach(), index)
            self.codebook.count(index)
            self.usage.count(index)
        n = self.codebook.choices(index)
        metrics = {"perplexity": perplexity(n), "codes_used": (n > 0).sum().float() / self.codebook.size}
        return Code(h, self._read(v, e, small), penalties={"codebook": penalty}, metrics=metrics)

    def moments(self, h: Tensor) -> tuple[Latent, Latent]:
        """h before quantisation; it has no spread."""
        return h.float(), torch.zeros_like(h, dtype=torch.float32)

    def project(self, z: Latent) -> Latent:
        """The nearest codes of any latent."""
        small, v = self._vectors(z)
        return self._read(v, self.codebook.table()[self.codebook.nearest(v.detach())], small)

    def indices(self, z: Latent) -> Tensor:
        """The codes' numbers, (B, h, w)."""
        small, v = self._vectors(z)
        return self.codebook.nearest(v.detach()).view(len(z), *small.shape[2:])

    def _vectors(self, h: Tensor) -> tuple[Tensor, Tensor]:
        small: Tensor = self.down(h)
        return small, self.codebook.vectors(small.movedim(1, -1).flatten(0, 2))

    def _read(self, v: Tensor, e: Tensor, small: Tensor) -> Tensor:
        b, d, height, width = small.shape
        through = v + (e - v).detach()
        read: Tensor = self.up(through.view(b, height, width, d).movedim(-1, 1))
        return read


@bottlenecks.register("vector_quantized")
@dataclass(frozen=True)
class VectorQuantizedConfig:
    """The nearest of a book of learned codes: config of `VectorQuantized`.

    Args:
        size: number of codes.
        weight: of the codebook loss, a mean over elements ("codebook_weight").
        beta: of the commitment.
        learning: how the codes follow.
        revive: a code whose share of use, averaged over about a hundred batches, falls below this part of an equal
            share is moved to a vector of the batch; 0 = never, as in the released models. 0.1 keeps a book alive.
        width: numbers per code, if less than the latent's channels: the search happens in a small space (Yu et al.
            2022, https://arxiv.org/abs/2110.04627, section 3.2).
        cosine: compare directions only (same section).

    Raises:
        ValueError: a size out of bounds, a negative weight.
    """

    size: int = 8192
    weight: float = 1.0
    beta: float = 0.25
    learning: CodebookLearning = field(default_factory=ByGradient)
    revive: float = 0.0
    width: int | None = None
    cosine: bool = False

    def __post_init__(self) -> None:
        check_sizes(size=(self.size, 2**20), width=(self.width, WIDEST))
        for name in ("weight", "beta", "revive"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")

    def build(self, channels: int) -> VectorQuantized:
        """A bottleneck with a fresh codebook."""
        return VectorQuantized(self, channels)

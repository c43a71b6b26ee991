"""What a latent space is like: how many bits it takes, how much of a codebook is used, how wide its channels are.

*Bits per pixel.* A discrete code costs log2 |Z| bits at each of its H W / f^2 places, however few codes are used. A
Gaussian one carries at most KL(q(z | x) || N(0, 1)), the number of bits that bits-back coding with that prior takes:

    KL = 1/2 sum_{c,h,w} (mu^2 + s^2 - 1 - log s^2)  nats of raw (not normalised) latents       H W pixels

Kingma & Welling 2014, https://arxiv.org/abs/1312.6114, appendix B. Without spread there is no such number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.autoencoder.bottleneck.base import Bottleneck
from calotype.autoencoder.bottleneck.finite_scalar import FiniteScalar
from calotype.autoencoder.bottleneck.usage import CodeUsage, Usage
from calotype.autoencoder.bottleneck.vector_quantized import VectorQuantized
from calotype.autoencoder.latent import LatentAutoencoder
from calotype.types import Image, Latent


@dataclass(frozen=True)
class LatentScores:
    """The latents of a set of pictures.

    Args:
        factor: f, pixels of the picture per place of the latent, along a side.
        channels: C.
        std: of the normalised latents (posterior samples) per channel; about 1 on pictures like those trained on.
        bits_per_pixel: see the module docstring; None if the code is neither discrete nor a distribution.
        codebook: how much of it is used over the whole set; None if the code is not discrete.
    """

    factor: int
    channels: int
    std: tuple[float, ...]
    bits_per_pixel: float | None
    codebook: CodeUsage | None


class LatentCensus:
    """Takes in latents batch by batch; sums are float64.

    Args:
        autoencoder: whose latents.
    """

    def __init__(self, autoencoder: LatentAutoencoder) -> None:
        self._autoencoder = autoencoder
        self._codes = _codes(autoencoder.bottleneck)
        self._places = self._pixels = 0
        self._first = self._second = torch.zeros(autoencoder.channels, dtype=torch.float64)
        self._nats: float | None = 0.0

    @torch.no_grad()
    def encode(self, image: Image) -> Latent:
        """The normalised latent (the mode) of pictures (B, 3, H, W) in [-1, 1], taken into account."""
        mu, s = self._autoencoder.raw_moments(image)
        z, spread = self._autoencoder.stats.normalize(mu), s / self._autoencoder.stats.std.view(-1, 1, 1)
        self._places += z[:, 0].numel()
        self._pixels += image[:, 0].numel()
        # In closed form, as in LatentStats: Var z = E[mu^2 + s^2] - (E mu)^2 for samples z of the posteriors.
        mean, spread = z.cpu().double(), spread.cpu().double()  # on the CPU first: not every device has float64
        self._first = self._first + mean.sum((0, 2, 3))
        self._second = self._second + (mean.square() + spread.square()).sum((0, 2, 3))
        if self._codes:
            usage, indices = self._codes
            usage.count(indices(mu).cpu())
        self._nats = self._nats + _kl(mu, s) if self._nats is not None and bool((s > 0).all()) else None
        return z

    def scores(self) -> LatentScores:
        """The record of all that was encoded; raises `ValueError` if nothing was."""
        if self._places == 0:
            raise ValueError("latents cannot be described before there are any")
        mean = self._first / self._places
        std = (self._second / self._places - mean.square()).clamp_min(0).sqrt()
        factor, bits, codebook = self._autoencoder.factor, None, None
        if self._codes:
            codebook = deepcopy(self._codes[0]).take()  # of a copy, because taking begins anew
            bits = math.log2(codebook.size) / factor**2
        elif self._nats is not None:
            bits = self._nats / math.log(2) / self._pixels
        return LatentScores(factor, self._autoencoder.channels, tuple(std.tolist()), bits, codebook)


def _kl(mu: Tensor, s: Tensor) -> float:
    mu, s = mu.cpu().double(), s.cpu().double()
    return float(0.5 * (mu.square() + s.square() - 1 - 2 * s.log()).sum())


def _codes(bottleneck: Bottleneck) -> tuple[Usage, Callable[[Latent], Tensor]] | None:
    """A fresh count, and raw latents (B, C, h, w) -> numbers of codes (B, h, w); None if there are no codes."""
    if isinstance(bottleneck, VectorQuantized | FiniteScalar):
        return Usage(len(bottleneck.usage.counts)), bottleneck.indices
    return None

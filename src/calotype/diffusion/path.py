"""How a noise level splits into signal and noise: log-SNR -> (alpha, sigma).

Paths differ by a factor common to alpha and sigma, that is by the scale of x_t alone: what is known about x_0, and the
solution of the probability flow in x_t / alpha, are the same on all of them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from calotype.registry import Registry


class Path(Protocol):
    """How log-SNR splits into alpha and sigma, with 2 log(alpha / sigma) = logsnr."""

    @abstractmethod
    def __call__(self, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, each of logsnr's shape; finite for infinite log-SNR too, or `Schedule` refuses it."""


paths: Registry[Path] = Registry("path")


@paths.register("variance_preserving")
@dataclass(frozen=True)
class VariancePreserving(Path):
    """alpha^2 = sigmoid(logsnr), sigma^2 = sigmoid(-logsnr), so alpha^2 + sigma^2 = 1.

    Song et al. 2021, https://arxiv.org/abs/2011.13456, section 3.4."""

    def __call__(self, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma in [0, 1]."""
        return logsnr.sigmoid().sqrt(), (-logsnr).sigmoid().sqrt()


@paths.register("linear")
@dataclass(frozen=True)
class LinearPath(Path):
    """alpha = sigmoid(logsnr / 2), sigma = sigmoid(-logsnr / 2), so alpha + sigma = 1: x_t on the line from x_0 to eps.

    With the curve `Flow`, alpha = 1 - t and sigma = t: rectified flow, Liu et al. 2023,
    https://arxiv.org/abs/2209.03003."""

    def __call__(self, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma in [0, 1]."""
        return (logsnr / 2).sigmoid(), (-logsnr / 2).sigmoid()


@paths.register("variance_exploding")
@dataclass(frozen=True)
class VarianceExploding(Path):
    """alpha = 1, sigma = exp(-logsnr / 2): the data stay, noise is added. Song et al. 2021,
    https://arxiv.org/abs/2011.13456, section 3.4; Karras et al. 2022, https://arxiv.org/abs/2206.00364.

    Needs a curve with a finite noisy end. A network sees x_t of any size here, so let its parameterization scale its
    input: `EDM`."""

    def __call__(self, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        """1, and sigma in [0, inf)."""
        return torch.ones_like(logsnr), (-logsnr / 2).exp()

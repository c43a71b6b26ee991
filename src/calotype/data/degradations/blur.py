"""Blur by a random Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calotype.data.degradations.base import Picture
from calotype.data.degradations.convolution import convolve
from calotype.data.degradations.kernels import Kernel, gaussian, isotropic
from calotype.errors import UserError


@dataclass(frozen=True)
class RandomBlur:
    """A Gaussian blur whose greatest width grows with the factor f; long in a random direction, or round (p 0.5 each).

        long:  variances ~ U(0, (4 + f) strength) each, direction ~ U(0, pi)
        round: standard deviation ~ U(0, (2 + 0.2 f) strength)

    Zhang et al. 2021 (BSRGAN), https://arxiv.org/abs/2103.14006, section 3.

    Args:
        strength: 1 in the paper, 1/4 in the light variant.
        long_sizes, round_sizes: how many pixels wide the kernel is, every one as often. An even size is enlarged by
            one, for it would move the picture by half a pixel.

    Raises:
        UserError: a negative strength, no sizes or one below 1.
    """

    strength: float
    long_sizes: tuple[int, ...]
    round_sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise UserError(f"a blur's strength must be 0 or more, got {self.strength}; 1 is BSRGAN's")
        for sizes in (self.long_sizes, self.round_sizes):
            if not sizes or min(sizes) < 1:
                raise UserError(f"a blur's sizes must be one or more numbers of at least 1, got {list(sizes)}")

    def __call__(self, image: Picture, factor: int, rng: np.random.Generator) -> Picture:
        """The picture, blurred."""
        return convolve(image, self.kernel(factor, rng))

    def kernel(self, factor: int, rng: np.random.Generator) -> Kernel:
        """A random kernel for this factor."""
        if rng.random() < 0.5:
            first, second = (rng.uniform(0, (4 + factor) * self.strength) for _ in range(2))
            return gaussian(_odd(self.long_sizes, rng), (first, second), rng.uniform(0, math.pi))
        sigma = rng.uniform(0, (2 + 0.2 * factor) * self.strength)
        return isotropic(_odd(self.round_sizes, rng), sigma)


def _odd(sizes: tuple[int, ...], rng: np.random.Generator) -> int:
    return sizes[int(rng.integers(len(sizes)))] | 1

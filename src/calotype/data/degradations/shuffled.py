"""Blur, shrinking, noise and compression in random order.

Zhang et al. 2021 (BSRGAN), https://arxiv.org/abs/2103.14006, section 3 and its code. One degradation after another, in
an order that is drawn anew for every picture, covers more of what happens to real pictures than any fixed order. With
f the factor and p probabilities:

    0. f = 4, p 0.25: half the size, `resampled` or by `smooth_cubic` (p 0.5 each); from here on f = 2
    1. in random order
        blur        as often as asked; see `RandomBlur`
        shrink      p `resized`: to 1 / U(1, 2 f) of the size, `resampled`; else `sieved` by f
        finish      to the final size, `resampled`; if it comes before `shrink`, the two change places
        noise       see `RandomNoise`
        compress    p 0.9; see `RandomJPEG`
    2. compress once more

`resampled` draws one of the resamplings linear, cubic and area each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calotype.data.degradations.base import Picture, check_factor, small_size, to_picture, to_pixels
from calotype.data.degradations.blur import RandomBlur
from calotype.data.degradations.convolution import convolve
from calotype.data.degradations.jpeg import RandomJPEG
from calotype.data.degradations.kernels import isotropic, shifted
from calotype.data.degradations.noise import RandomNoise
from calotype.data.degradations.resize import area, cubic, linear, resize, smooth_cubic
from calotype.data.images import Pixels
from calotype.errors import UserError


@dataclass(frozen=True)
class Shuffled:
    """Random degradations in random order: what BSRGAN's variants share.

    Args:
        factor: how many times smaller; 2 or more.
        blur: what blurs.
        blurs: how often.
        resized: probability that the picture is shrunk by a random factor first, not straight by `factor`.
        noise: what adds noise.
        jpeg: what compresses.

    Raises:
        UserError: a number out of range.
    """

    factor: int
    blur: RandomBlur
    blurs: int
    resized: float
    noise: RandomNoise
    jpeg: RandomJPEG

    def __post_init__(self) -> None:
        check_factor(self.factor)
        if self.blurs < 0:
            raise UserError(f"blurs must be 0 or more, got {self.blurs}; 2 is BSRGAN's")
        if not 0 <= self.resized <= 1:
            raise UserError(f"resized is a probability, got {self.resized}; 0.75 is BSRGAN's")

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """See `Degradation`."""
        height, width = small_size(image, self.factor)
        picture, factor = to_picture(image), self.factor
        if factor == 4 and rng.random() < 0.25:
            picture, factor = halved(picture, rng), 2

        def blur(x: Picture) -> Picture:
            return self.blur(x, factor, rng)

        def shrink(x: Picture) -> Picture:
            if rng.random() < self.resized:
                by = rng.uniform(1, 2 * factor)
                return resampled(x, int(x.shape[0] / by), int(x.shape[1] / by), rng)
            return sieved(x, factor, rng.uniform(0.1, 0.6 * factor))

        def finish(x: Picture) -> Picture:
            return resampled(x, height, width, rng)

        def noise(x: Picture) -> Picture:
            return self.noise(x, rng)

        def compress(x: Picture) -> Picture:
            return self.jpeg(x, rng) if rng.random() < 0.9 else x

        steps = [shrink, finish, noise, compress, *[blur] * self.blurs]
        order = rng.permutation(len(steps)).tolist()
        first, second = sorted((order.index(0), order.index(1)))
        order[first], order[second] = 0, 1
        for k in order:
            picture = steps[k](picture)
        return to_pixels(self.jpeg(picture, rng))


def halved(image: Picture, rng: np.random.Generator) -> Picture:
    """(H, W, C) -> (H / 2, W / 2, C), clipped: with or without antialiasing, p 0.5 each."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    if rng.random() < 0.5:
        return resampled(image, height, width, rng)
    return resize(image, height, width, smooth_cubic).clip(0, 1)


def resampled(image: Picture, height: int, width: int, rng: np.random.Generator) -> Picture:
    """(H, W, C) -> (height, width, C), at least one pixel each, clipped; by one of three resamplings at random."""
    resampling = (linear, cubic, area)[int(rng.integers(3))]
    return resize(image, max(height, 1), max(width, 1), resampling).clip(0, 1)


def sieved(image: Picture, factor: int, sigma: float) -> Picture:
    """Every `factor`-th pixel after a Gaussian blur of 25 x 25; (H, W, C) -> (ceil(H / factor), ..., C), clipped.

    The kernel is shifted by (factor - 1) / 2, so that what is kept of each factor x factor block is its middle."""
    kernel = shifted(isotropic(25, sigma), (factor - 1) / 2)
    return np.ascontiguousarray(convolve(image, kernel)[::factor, ::factor]).clip(0, 1)

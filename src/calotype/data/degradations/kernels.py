"""Blur kernels: Gaussians, round or not, on a square grid of an odd number of pixels.

    k(d) = exp(-d' C^-1 d / 2) / sum,    d = (x, y) from the middle pixel,    C = R diag(variances) R'

A kernel of an even number of pixels has no middle: it moves the picture by half a pixel. Here there are none.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Kernel = NDArray[np.float64]
"""(n, n), n odd, sum 1; rows are y, columns are x."""

SHARP = 1e-6
"""Variances in square pixels below this are taken as this: nothing but the middle pixel, and no 0 / 0."""


def gaussian(size: int, variances: tuple[float, float], angle: float = 0.0) -> Kernel:
    """A Gaussian.

    Args:
        size: pixels of a side, odd.
        variances: along the first axis and across it, in square pixels, >= 0; the eigenvalues of C.
        angle: from x to the first axis, towards y, in radians.

    Raises:
        ValueError: an even size or a negative variance.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"a kernel has an odd number of pixels, got {size}")
    if min(variances) < 0:
        raise ValueError(f"variances are not negative, got {variances}")
    d = np.arange(size) - size // 2
    x, y = d[None, :], d[:, None]
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    first, second = (max(v, SHARP) for v in variances)
    # the middle pixel is exp(0) = 1, so the sum is never 0
    return _normalised(np.exp(-0.5 * (along**2 / first + across**2 / second)))


def isotropic(size: int, sigma: float) -> Kernel:
    """A round Gaussian of standard deviation `sigma` >= 0 in pixels; raises `ValueError` as `gaussian` does."""
    return gaussian(size, (sigma**2, sigma**2))


def shifted(kernel: Kernel, by: float) -> Kernel:
    """k(d + by) in x and y, linear between pixels, the outermost ones repeated; sum 1.

    Convolution with it takes each pixel from `by` further right and down. A shift by half a pixel is the mean of two
    neighbours: it adds 1/4 to both variances."""
    n = len(kernel)
    at = (np.arange(n) + by).clip(0, n - 1)
    low = np.floor(at).astype(int).clip(0, max(n - 2, 0))
    high, part = np.minimum(low + 1, n - 1), at - low
    rows = kernel[low] * (1 - part)[:, None] + kernel[high] * part[:, None]
    return _normalised(rows[:, low] * (1 - part) + rows[:, high] * part)


def _normalised(k: Kernel) -> Kernel:
    k /= k.sum()
    return k

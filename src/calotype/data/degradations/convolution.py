"""Convolution of a picture with a kernel, mirrored at the border."""

from __future__ import annotations

import numpy as np

from calotype.data.degradations.base import Picture
from calotype.data.degradations.kernels import Kernel


def convolve(image: Picture, kernel: Kernel) -> Picture:
    """out(i) = sum over d of k(d) image(i - d), each channel alone; (H, W, C) -> (H, W, C).

    Beyond the border the picture is mirrored about its outermost pixels (c b | a b c). Computed by the fast Fourier
    transform: a kernel of 25 x 25 costs no more than one of 5 x 5."""
    (height, width, _), r = image.shape, len(kernel) // 2
    padded = np.pad(image, ((r, r), (r, r), (0, 0)), mode="reflect").transpose(2, 0, 1)
    shape = _quick(height + 2 * r), _quick(width + 2 * r)
    spectrum = np.fft.rfft2(padded, shape) * np.fft.rfft2(kernel.astype(np.float32), shape)
    full = np.fft.irfft2(spectrum, shape)
    # what wraps around lands in the first 2 r rows and columns, which are not asked for
    inside = full[:, 2 * r : 2 * r + height, 2 * r : 2 * r + width]
    return np.ascontiguousarray(inside.transpose(1, 2, 0), dtype=np.float32)


def _quick(n: int) -> int:
    """The smallest number >= n without prime factors above 5: transforms of such lengths are the fast ones."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1

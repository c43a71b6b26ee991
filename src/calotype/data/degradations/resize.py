"""Pictures of other sizes, in floating point.

A resampling says of which input pixels, with which weights, each output pixel of a row is made; a picture is resampled
along its columns, then along its rows. Output pixel j of n sees input position

    u = (j + 1/2) s - 1/2,    s = n_in / n

The first three are what OpenCV's flags INTER_LINEAR, INTER_CUBIC and INTER_AREA do to floats; linear and cubic look at
2 and 4 neighbours however much the picture shrinks, so they alias. `smooth_cubic` does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calotype.data.degradations.base import Picture


class Taps(NamedTuple):
    """Output pixel j is the sum over k of weight[j, k] input[at[j, k]]; both (n, K), weights sum to 1 over k."""

    at: NDArray[np.intp]
    weight: NDArray[np.floating]


Resampling = Callable[[int, int], Taps]
"""(n_in, n) -> the taps of n output pixels."""


def resize(image: Picture, height: int, width: int, resampling: Resampling) -> Picture:
    """(H, W, C) -> (height, width, C); cubic resampling may overshoot [0, 1]."""
    tall = _columns(image, resampling(image.shape[0], height))
    turned = np.ascontiguousarray(tall.transpose(1, 0, 2))
    return np.ascontiguousarray(_columns(turned, resampling(image.shape[1], width)).transpose(1, 0, 2))


def _columns(image: Picture, taps: Taps) -> Picture:
    # rows are gathered whole; a matrix product would wake the linear algebra's own threads in every decoding thread
    weight = taps.weight.astype(np.float32)[:, :, None, None]
    out: Picture = image[taps.at[:, 0]] * weight[:, 0]
    for k in range(1, weight.shape[1]):
        out += image[taps.at[:, k]] * weight[:, k]
    return out


def linear(n_in: int, n: int) -> Taps:
    """The two neighbours of u; the outermost pixels repeated. No antialiasing."""
    u = _positions(n_in, n)
    low = np.floor(u)
    part = u - low
    return _repeated(low[:, None] + np.arange(2), np.stack([1 - part, part], 1), n_in)


def cubic(n_in: int, n: int) -> Taps:
    """The four neighbours of u by Keys' kernel with a = -0.75; the outermost pixels repeated. No antialiasing."""
    u = _positions(n_in, n)
    index = np.floor(u)[:, None] + np.arange(-1.0, 3.0)
    return _repeated(index, keys(u[:, None] - index, -0.75), n_in)


def area(n_in: int, n: int) -> Taps:
    """The exact mean of the input, constant within each pixel, over the output pixel [j s, (j + 1) s]."""
    s = n_in / n
    start = np.arange(n)[:, None] * s
    index = np.floor(start) + np.arange(math.ceil(s) + 1)
    overlap = (np.minimum(index + 1, start + s) - np.maximum(index, start)).clip(0)
    overlap[index >= n_in] = 0  # rounding of the last end
    return _repeated(index, overlap / overlap.sum(1, keepdims=True), n_in)


def smooth_cubic(n_in: int, n: int) -> Taps:
    """Keys' kernel with a = -0.5, as wide as an output pixel asks when shrinking; MATLAB's `imresize`.

    The picture is mirrored at its border (b a | a b)."""
    s = max(n_in / n, 1.0)
    u = _positions(n_in, n)
    index = np.floor(u - 2 * s)[:, None] + np.arange(math.ceil(4 * s) + 2)
    weight = keys((u[:, None] - index) / s, -0.5)
    within = index.astype(np.intp) % (2 * n_in)
    return Taps(np.minimum(within, 2 * n_in - 1 - within), weight / weight.sum(1, keepdims=True))


def keys(x: NDArray[np.floating], a: float) -> NDArray[np.floating]:
    """Keys 1981, "Cubic convolution interpolation for digital image processing", eq. (4) for any a.

    (a + 2) |x|^3 - (a + 3) |x|^2 + 1 up to 1, a (|x|^3 - 5 |x|^2 + 8 |x| - 4) up to 2, 0 beyond."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _positions(n_in: int, n: int) -> NDArray[np.floating]:
    return (np.arange(n) + 0.5) * (n_in / n) - 0.5


def _repeated(index: NDArray[np.floating], weight: NDArray[np.floating], n_in: int) -> Taps:
    return Taps(index.astype(np.intp).clip(0, n_in - 1), weight)

import numpy as np
import pytest

from calotype.data.degradations.convolution import convolve
from calotype.data.degradations.kernels import isotropic


def brute(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    (height, width, _), r = image.shape, len(kernel) // 2
    out = np.zeros(image.shape)
    for y, x in np.ndindex(height, width):
        for i, j in np.ndindex(*kernel.shape):
            out[y, x] += kernel[i, j] * image[mirror(y - i + r, height), mirror(x - j + r, width)]
    return out


def mirror(i: int, n: int) -> int:
    while not 0 <= i < n:
        i = -i if i < 0 else 2 * (n - 1) - i
    return i


@pytest.mark.parametrize(("size", "width"), [((9, 14), 5), ((4, 3), 9), ((7, 5), 1)])
def test_equals_the_sum(size: tuple[int, int], width: int) -> None:
    """With a kernel without symmetries; also one larger than the picture."""
    rng = np.random.default_rng(0)
    image, kernel = rng.random((*size, 3), dtype=np.float32), rng.random((width, width))
    kernel /= kernel.sum()
    out = convolve(image, kernel)
    assert out.dtype == np.float32 and out.shape == image.shape
    assert np.abs(out - brute(image, kernel)).max() < 1e-6


def test_a_single_row_of_pixels() -> None:
    assert np.abs(convolve(np.full((1, 6, 3), 0.25, np.float32), isotropic(25, 2.0)) - 0.25).max() < 1e-6

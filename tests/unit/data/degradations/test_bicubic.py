import numpy as np
import pytest

from calotype.data.degradations import Bicubic


def line_weights(n: int, factor: int) -> np.ndarray:
    """(n / factor, n): Keys' kernel with a = -1/2, `factor` times as wide, normalised within the picture."""
    out = (np.arange(n // factor) + 0.5) * factor
    x = np.abs(np.arange(n) + 0.5 - out[:, None]) / factor
    w = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
    return w / w.sum(1, keepdims=True)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_equals_the_kernel_evaluated_directly(factor: int) -> None:
    """To a level: Pillow rounds after the first of its two passes too. Low contrast, for it also clips there."""
    image = np.random.default_rng(0).integers(80, 176, (5 * factor, 8 * factor, 3), dtype=np.uint8)
    rows, columns = line_weights(5 * factor, factor), line_weights(8 * factor, factor)
    expected = np.einsum("yh,xw,hwc->yxc", rows, columns, image.astype(float))
    out = Bicubic(factor)(image, np.random.default_rng(0))
    assert np.abs(out - expected).max() < 1.01


def test_does_not_alias() -> None:
    """Stripes of one pixel become grey; without antialiasing they would stay, or turn into coarser ones."""
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    out = Bicubic()(stripes, np.random.default_rng(0)).astype(int)[:, 1:-1]
    assert np.abs(out - 127.5).max() < 3


def test_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    Bicubic()(np.zeros((8, 8, 3), np.uint8), rng)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state

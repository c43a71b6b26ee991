import math

import numpy as np
import pytest

from calotype.data.degradations.kernels import Kernel, gaussian, isotropic, shifted


def moments(kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (x, y), from the middle pixel."""
    d = np.arange(len(kernel)) - len(kernel) // 2
    y, x = np.meshgrid(d, d, indexing="ij")
    at = np.stack([x, y]).reshape(2, -1)
    mean = at @ kernel.ravel()
    return mean, (at * kernel.ravel()) @ at.T - np.outer(mean, mean)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.9])
def test_covariance_is_the_one_asked_for(angle: float) -> None:
    """From variances of about 1 on, sampling a Gaussian on whole pixels keeps them (Poisson's formula)."""
    kernel = gaussian(61, (9.0, 1.5), angle)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mean, covariance = moments(kernel)
    assert abs(kernel.sum() - 1) < 1e-12 and np.abs(mean).max() < 1e-12
    assert np.abs(covariance - turn @ np.diag([9.0, 1.5]) @ turn.T).max() < 1e-6


def test_isotropic_is_the_outer_product_of_one_line() -> None:
    d = np.arange(-3, 4)
    line = np.exp(-(d**2) / (2 * 0.8**2))
    expected = np.outer(line, line) / line.sum() ** 2
    assert np.abs(isotropic(7, 0.8) - expected).max() < 1e-15


@pytest.mark.parametrize("variances", [(0.0, 0.0), (1e-300, 1e-12), (0.0, 3.0)])
def test_no_width_is_no_blur_and_no_nan(variances: tuple[float, float]) -> None:
    kernel = gaussian(15, variances, 0.3)
    assert np.isfinite(kernel).all() and abs(kernel.sum() - 1) < 1e-12
    assert kernel[7, 7] > 0.999
    assert isotropic(1, 0.0).tolist() == [[1.0]]


@pytest.mark.parametrize("by", [0.5, 1.0, 1.5])
def test_shift_moves_the_centroid_and_linear_interpolation_widens(by: float) -> None:
    mean, covariance = moments(shifted(isotropic(25, 1.3), by))
    assert np.abs(mean + by).max() < 1e-9
    wider = 0.25 if by % 1 else 0.0
    assert np.abs(covariance - (1.3**2 + wider) * np.eye(2)).max() < 1e-4


def test_a_shift_by_whole_pixels_is_a_roll() -> None:
    kernel = isotropic(25, 1.0)
    assert np.abs(shifted(kernel, 2) - np.roll(kernel, (-2, -2), (0, 1))).max() < 1e-15
    assert shifted(isotropic(1, 1.0), 0.5).tolist() == [[1.0]]


def test_wrong_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="odd number of pixels, got 6"):
        gaussian(6, (1, 1))
    with pytest.raises(ValueError, match="not negative"):
        gaussian(5, (1, -1))

"""Sensor noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calotype.data.degradations.base import Picture
from calotype.errors import UserError


@dataclass(frozen=True)
class RandomNoise:
    """Gaussian noise of a random level: coloured (p 0.4), grey (p 0.4), or of correlated colours (p 0.2).

    Zhang et al. 2021 (BSRGAN), https://arxiv.org/abs/2103.14006, section 3. Coloured: independent in every channel.
    Grey: the same in all three. Correlated: see `colour_covariance`; always of the highest level, as in its code.

    Args:
        levels: (lowest, highest) standard deviation in steps of 1/255, whole numbers, every one as often.

    Raises:
        UserError: an empty or negative range.
    """

    levels: tuple[int, int]

    def __post_init__(self) -> None:
        if not 0 <= self.levels[0] <= self.levels[1]:
            raise UserError(f"levels must be (lowest, highest) of 0 or more, got {self.levels}; swap or raise them")

    def __call__(self, image: Picture, rng: np.random.Generator) -> Picture:
        """The picture with noise, clipped to [0, 1]."""
        sigma = np.float32(rng.integers(*self.levels, endpoint=True) / 255)
        kind = rng.random()
        if kind > 0.6:
            noise = sigma * _normal(image.shape, rng)
        elif kind < 0.4:
            noise = sigma * _normal((*image.shape[:2], 1), rng)
        else:
            noise = correlated(image.shape, colour_covariance(self.levels[1] / 255, rng), rng)
        return (image + noise).clip(0, 1)


def colour_covariance(sigma: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """sigma^2 |U' diag(d) U|: (3, 3), d ~ U(0, 1)^3, U the left singular vectors of a matrix ~ U(0, 1)^(3 x 3).

    |.| is of each entry: colours rise and fall together, as brightness makes them. It leaves a 3 x 3 covariance one,
    for the only term of its determinant that depends on signs, 2 c_12 c_13 c_23, does not shrink."""
    d = rng.random(3)
    u = np.linalg.svd(rng.random((3, 3)))[0]
    c: NDArray[np.float64] = np.abs(u.T @ np.diag(d) @ u)
    return sigma**2 * c


def correlated(shape: tuple[int, ...], covariance: NDArray[np.float64], rng: np.random.Generator) -> Picture:
    """N(0, covariance) over the three channels, independent in every pixel."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(0))  # rounding may leave -1e-20 where an eigenvalue is 0
    out: Picture = np.einsum("hwc,dc->hwd", _normal(shape, rng), root.astype(np.float32))
    return out


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Picture:
    return rng.standard_normal(shape, dtype=np.float32)

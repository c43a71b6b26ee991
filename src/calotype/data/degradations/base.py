"""What a degradation is, and the pictures that its steps hand to each other."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calotype.data.images import Pixels
from calotype.errors import UserError
from calotype.registry import Registry

Picture = NDArray[np.float32]
"""(H, W, 3) in [0, 1]; between the steps of a degradation."""


@runtime_checkable
class Degradation(Protocol):
    """A sharp picture as a bad camera and a long way leave it: small, and perhaps blurred, noisy and compressed."""

    @property
    @abstractmethod
    def factor(self) -> int:
        """How many times smaller the result is, in height and in width; at least 2."""

    @abstractmethod
    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """uint8 (H, W, 3) -> uint8 (H / factor, W / factor, 3), the same for a generator in the same state.

        Raises `ValueError` for another dtype or shape, or sides that are no multiples of `factor`: there is no crop
        that the caller does not know of."""


degradations: Registry[Degradation] = Registry("degradation", "calotype.data.degradations", Degradation)


def check_factor(factor: int) -> None:
    """Raise `UserError` unless a picture shrinks by the factor."""
    if factor < 2:
        raise UserError(f"a degradation's factor must be 2 or more, got {factor}; 4 is usual")


def small_size(image: Pixels, factor: int) -> tuple[int, int]:
    """(H / factor, W / factor) of a picture; raises `ValueError` as `Degradation` says."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"a degradation takes uint8 (H, W, 3), got {image.dtype} {image.shape}")
    height, width, _ = image.shape
    if height % factor or width % factor:
        raise ValueError(f"the sides of a picture must be multiples of {factor}, got {height} x {width}")
    return height // factor, width // factor


def to_picture(pixels: Pixels) -> Picture:
    """0 ... 255 -> [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def to_pixels(picture: Picture) -> Pixels:
    """[0, 1], clipped -> 0 ... 255, to the nearest."""
    pixels: Pixels = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    return pixels

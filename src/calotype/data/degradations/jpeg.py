"""Compression."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from calotype.data.degradations.base import Picture, to_picture, to_pixels
from calotype.data.images import Pixels
from calotype.errors import UserError


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """A picture after JPEG at this quality, 1 to 100, with colour at half the resolution (4:2:0)."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(data, formats=("JPEG",)) as image:
        return np.asarray(image)


@dataclass(frozen=True)
class RandomJPEG:
    """JPEG at a random quality, every one as often.

    Args:
        quality: (lowest, highest), within 1 ... 100.

    Raises:
        UserError: the range is empty or beyond that.
    """

    quality: tuple[int, int]

    def __post_init__(self) -> None:
        if not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise UserError(f"quality must be (lowest, highest) within 1 ... 100, got {self.quality}; swap or limit it")

    def __call__(self, image: Picture, rng: np.random.Generator) -> Picture:
        """Compressed and opened again; of 256 levels."""
        return to_picture(jpeg(to_pixels(image), int(rng.integers(*self.quality, endpoint=True))))

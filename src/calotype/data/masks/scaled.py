"""Masks made for pictures of another size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calotype.data.masks.base import Hole, MaskGenerator, masks
from calotype.data.masks.mixed import Mixed
from calotype.errors import UserError


@masks.register("scaled")
@dataclass(frozen=True)
class Scaled:
    """A generator whose lengths in pixels are meant for another size, such as 256; TRUE IN THE HOLE.

    The mask is drawn for a picture of the same shape whose shorter side has `side` pixels, and each pixel asks the one
    that its middle lies in. So a picture of 64 pixels gets the holes that one of 256 has, at a quarter of the size.

    Args:
        mask: the generator.
        side: the shorter side that it is meant for, in pixels.

    Raises:
        UserError: no side.
    """

    mask: MaskGenerator = field(default_factory=Mixed)
    side: int = 256

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UserError(f"side must be 1 or more pixels, got {self.side}; 256 is LaMa's")

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """See `MaskGenerator`."""
        scale = self.side / min(height, width)
        large = round(height * scale), round(width * scale)
        hole = self.mask(*large, rng)
        rows, columns = (_asked(n, m, 0.5) for n, m in zip((height, width), large, strict=True))
        small: Hole = hole[rows[:, None], columns]
        if small.any():
            return small
        # all holes fell between the pixels asked, so it shrank: now each pixel asks all that it covers
        rows, columns = (_asked(n, m, 0.0) for n, m in zip((height, width), large, strict=True))
        covered: Hole = np.logical_or.reduceat(np.logical_or.reduceat(hole, rows, 0), columns, 1)
        return covered


def _asked(n: int, m: int, at: float) -> NDArray[np.intp]:
    """In which of m pixels the n pixels have their start (`at` 0) or middle (`at` 0.5)."""
    return ((np.arange(n) + at) * m / n).astype(np.intp)

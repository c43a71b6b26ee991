"""Holes with a name: half of the picture, its centre, its border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calotype.data.masks.base import Hole, masks
from calotype.errors import UserError


@masks.register("half")
@dataclass(frozen=True)
class Half:
    """The left, right, upper or lower half, each as often; TRUE IN THE HOLE."""

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """See `MaskGenerator`; of an odd side the known half is the larger one, but for a single pixel."""
        hole = np.zeros((height, width), dtype=bool)
        along, from_the_end = divmod(int(rng.integers(4)), 2)
        view = hole.T if along else hole
        view = view[::-1] if from_the_end else view
        view[: max(len(view) // 2, 1)] = True
        return hole


@masks.register("centre")
@dataclass(frozen=True)
class Centre:
    """A rectangle in the middle, of the picture's shape; TRUE IN THE HOLE. Nothing is random.

    Args:
        share: of each side, above 0, up to 1.

    Raises:
        UserError: a share out of range.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"share must be above 0, up to 1, got {self.share}; 0.5 is a quarter of the picture")

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """See `MaskGenerator`."""
        hole = np.zeros((height, width), dtype=bool)
        high, wide = (max(round(n * self.share), 1) for n in (height, width))
        top, left = (height - high) // 2, (width - wide) // 2
        hole[top : top + high, left : left + wide] = True
        return hole


@masks.register("border")
@dataclass(frozen=True)
class Border:
    """Strips along one to four sides, as outpainting needs; TRUE IN THE HOLE.

    Each of the 15 choices of sides is as likely as any other; each strip has a width of its own.

    Args:
        least, most: how wide a strip is, as a share of the side that it cuts into; uniform between them, 0 to 0.5.
            At least a pixel.

    Raises:
        UserError: shares out of range.
    """

    least: float = 0.05
    most: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most <= 0.5:
            raise UserError(f"border needs 0 <= least <= most <= 0.5, got {self.least} and {self.most}")

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """See `MaskGenerator`."""
        hole = np.zeros((height, width), dtype=bool)
        sides = int(rng.integers(1, 16))
        for k, view in enumerate((hole, hole[::-1], hole.T, hole.T[::-1])):
            if sides >> k & 1:
                view[: max(round(len(view) * rng.uniform(self.least, self.most)), 1)] = True
        return hole

"""Holes as rectangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calotype.data.masks.base import Hole, check_range, draw, masks
from calotype.errors import UserError


@masks.register("boxes")
@dataclass(frozen=True)
class Boxes:
    """Upright rectangles anywhere, which may overlap; TRUE IN THE HOLE.

    Suvorov et al. 2021 (LaMa), https://arxiv.org/abs/2109.07161, and its code. All numbers are drawn from (lowest,
    highest), both included, every one as often; places too. In a small picture the longest side is what the shorter
    side leaves between its margins.

    Args:
        boxes: how many.
        sides: of each box, in pixels; height and width are drawn apart.
        margin: pixels at the border that stay known.

    Raises:
        UserError: an empty range or a negative margin.
    """

    boxes: tuple[int, int] = (1, 4)
    sides: tuple[int, int] = (30, 150)
    margin: int = 10

    def __post_init__(self) -> None:
        check_range("boxes", self.boxes, 1)
        check_range("sides", self.sides, 1)
        if self.margin < 0:
            raise UserError(f"a margin must be 0 or more pixels, got {self.margin}")

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """See `MaskGenerator`; raises `UserError` where the smallest box does not fit."""
        longest = min(self.sides[1], height - 2 * self.margin, width - 2 * self.margin)
        if longest < self.sides[0]:
            raise UserError(
                f"boxes of {self.sides[0]} pixels with a margin of {self.margin} do not fit into {height} x {width}; "
                "make them smaller or wrap them in mask.scaled"
            )
        hole = np.zeros((height, width), dtype=bool)
        for _ in range(draw(self.boxes, rng)):
            wide, high = draw((self.sides[0], longest), rng), draw((self.sides[0], longest), rng)
            left = draw((self.margin, width - self.margin - wide), rng)
            top = draw((self.margin, height - self.margin - high), rng)
            hole[top : top + high, left : left + wide] = True
        return hole

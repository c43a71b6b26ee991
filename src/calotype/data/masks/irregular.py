"""Holes as a brush would leave them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calotype.data.masks.base import Hole, check_range, draw, masks
from calotype.errors import UserError


@masks.register("irregular")
@dataclass(frozen=True)
class Irregular:
    """Bent strokes of a round brush; TRUE IN THE HOLE.

    Suvorov et al. 2021 (LaMa), https://arxiv.org/abs/2109.07161, and its code. A stroke begins anywhere and is made of
    segments, each where the last one ended:

        angle a = 0.01 + U{0 .. angles - 1} radians, 2 pi - a for the first, third, ... stroke
        end = start + length (sin a, cos a), cut to whole pixels and to [0, W] x [0, H]

    All numbers are drawn from (lowest, highest), both included, every one as often. The code's configuration says 1 to
    5 strokes where its two classes together draw 1 to 6; what is drawn counts. A hole is the pixels at most half a
    width from a segment. OpenCV, which the code draws with, makes a line of w pixels 2 ceil(w / 2) + 1 wide:
    `widths=(6, 105)` is what its 5 to 104 look like.

    Args:
        strokes: how many.
        segments: of each stroke.
        lengths: of each segment, in pixels.
        widths: of each segment, in pixels.
        angles: how many there are: whole radians, so only few.

    Raises:
        UserError: an empty range, or one that allows nothing to be drawn.
    """

    strokes: tuple[int, int] = (1, 6)
    segments: tuple[int, int] = (1, 5)
    lengths: tuple[int, int] = (10, 209)
    widths: tuple[int, int] = (5, 104)
    angles: int = 4

    def __post_init__(self) -> None:
        for name in ("strokes", "segments", "widths"):
            check_range(name, getattr(self, name), 1)
        check_range("lengths", self.lengths, 0)
        if self.angles < 1:
            raise UserError(f"angles must be 1 or more, got {self.angles}; 4 is LaMa's")

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """See `MaskGenerator`."""
        hole = np.zeros((height, width), dtype=bool)
        for stroke in range(draw(self.strokes, rng)):
            x, y = int(rng.integers(width)), int(rng.integers(height))
            for _ in range(draw(self.segments, rng)):
                angle = 0.01 + int(rng.integers(self.angles))
                angle = angle if stroke % 2 else 2 * math.pi - angle
                length, brush = draw(self.lengths, rng), draw(self.widths, rng)
                to_x = min(max(int(x + length * math.sin(angle)), 0), width)
                to_y = min(max(int(y + length * math.cos(angle)), 0), height)
                paint(hole, (x, y), (to_x, to_y), brush / 2)
                x, y = to_x, to_y
        return hole


def paint(hole: Hole, start: tuple[int, int], end: tuple[int, int], radius: float) -> None:
    """Set the pixels of `hole` whose distance from the segment between two (x, y) is at most `radius`."""
    (x_0, y_0), (x_1, y_1) = start, end
    reach = math.ceil(radius)
    top, left = max(min(y_0, y_1) - reach, 0), max(min(x_0, x_1) - reach, 0)
    part = hole[top : max(y_0, y_1) + reach + 1, left : max(x_0, x_1) + reach + 1]
    x = np.arange(left, left + part.shape[1], dtype=np.float32)[None, :] - x_0
    y = np.arange(top, top + part.shape[0], dtype=np.float32)[:, None] - y_0
    dx, dy = x_1 - x_0, y_1 - y_0
    # where along the segment, 0 to 1, the nearest point lies
    along = ((x * dx + y * dy) / max(dx * dx + dy * dy, 1)).clip(0, 1)
    part |= (x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius**2

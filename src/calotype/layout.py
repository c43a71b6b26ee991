"""What is where in a picture: boxes with the class of what they hold, or the area of every pixel.

Coordinates are relative to the picture: (0, 0) is its top left corner, (1, 1) its bottom right one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calotype.errors import UserError

UNLABELLED = 255
"""What a label map says where a pixel belongs to no area."""

LEAST = 1e-6
"""The smallest side that a box may have."""


@dataclass(frozen=True)
class Box:
    """An object's class index and its place.

    Raises:
        UserError: corners outside [0, 1], or a box without extent.
    """

    label: int
    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        corners = (self.x0, self.y0, self.x1, self.y1)
        if not all(0.0 <= c <= 1.0 for c in corners):
            raise UserError(
                f"a box must lie inside the picture, corners in [0, 1], got {corners}; divide pixels by width and "
                "height"
            )
        if not (self.x1 - self.x0 >= LEAST and self.y1 - self.y0 >= LEAST):
            raise UserError(f"a box needs x0 < x1 and y0 < y1, got {corners}")

    @property
    def area(self) -> float:
        """Share of the picture."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def mirrored(self) -> Box:
        """In the picture's mirror image, left and right exchanged."""
        return Box(self.label, 1 - self.x1, self.y0, 1 - self.x0, self.y1)

    def seen_through(self, window: Window) -> Box | None:
        """In the crop of the picture that a window is: clipped, and relative to it; None if nothing is left.

        The reference data code of taming-transformers moves a box that begins outside the crop instead of clipping it.
        """
        x0, x1 = ((x - window.x0) / (window.x1 - window.x0) for x in (self.x0, self.x1))
        y0, y1 = ((y - window.y0) / (window.y1 - window.y0) for y in (self.y0, self.y1))
        x0, y0, x1, y1 = (min(max(c, 0.0), 1.0) for c in (x0, y0, x1, y1))
        return Box(self.label, x0, y0, x1, y1) if x1 - x0 >= LEAST and y1 - y0 >= LEAST else None


@dataclass(frozen=True)
class Window:
    """The part of an original picture that a crop shows, however small; by default all of it.

    Raises:
        UserError: corners outside [0, 1], or no extent.
    """

    x0: float = 0.0
    y0: float = 0.0
    x1: float = 1.0
    y1: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.x0 < self.x1 <= 1.0 and 0.0 <= self.y0 < self.y1 <= 1.0):
            raise UserError(
                f"a window must lie inside the picture, 0 <= x0 < x1 <= 1 and so y, got "
                f"{(self.x0, self.y0, self.x1, self.y1)}; divide pixels by width and height"
            )

    def mirrored(self) -> Window:
        """In the original's mirror image."""
        return Window(1 - self.x1, self.y0, 1 - self.x0, self.y1)


@dataclass(frozen=True)
class Layout:
    """The wish for a picture's objects.

    Args:
        boxes: in any order.
        window: which part of an original picture this is; a model that was trained on crops can be asked for one.
    """

    boxes: tuple[Box, ...] = ()
    window: Window = Window()

    def cropped(self, window: Window, least: float = 0.0) -> Layout:
        """What a crop of the picture holds.

        Args:
            window: relative to this picture.
            least: boxes below this share of the crop are left out.
        """
        seen = (box.seen_through(window) for box in self.boxes)
        width, height = self.window.x1 - self.window.x0, self.window.y1 - self.window.y0
        within = Window(
            self.window.x0 + width * window.x0,
            self.window.y0 + height * window.y0,
            min(1.0, self.window.x0 + width * window.x1),
            min(1.0, self.window.y0 + height * window.y1),
        )
        return Layout(tuple(box for box in seen if box is not None and box.area >= least), within)

    def painted(self, height: int, width: int) -> NDArray[np.uint8]:
        """Its boxes as a label map (height, width): the class of the smallest box over a pixel's middle, `UNLABELLED`
        where there is none."""
        areas = np.full((height, width), UNLABELLED, np.uint8)
        for box in sorted(self.boxes, key=lambda box: -box.area):
            (top, bottom), (left, right) = (
                (math.ceil(low * n - 0.5), math.ceil(high * n - 0.5))
                for low, high, n in ((box.y0, box.y1, height), (box.x0, box.x1, width))
            )
            areas[top:bottom, left:right] = box.label
        return areas

    def mirrored(self) -> Layout:
        """In the mirror image: what is seen through the mirrored window of the mirrored original."""
        return Layout(tuple(box.mirrored() for box in self.boxes), self.window.mirrored())


def check_labels(boxes: Sequence[Box], classes: Sequence[str]) -> None:
    """Raise `UserError` unless every box has one of these classes."""
    for box in boxes:
        if not 0 <= box.label < len(classes):
            raise UserError(f"a box has the class {box.label}, but there are {len(classes)}: 0 ... {len(classes) - 1}")

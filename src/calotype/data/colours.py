"""The colours in which classes are shown, of boxes and of areas alike."""

from __future__ import annotations

import colorsys

import numpy as np

from calotype.data.images import WHITE, Pixels
from calotype.data.view import LabelMap
from calotype.layout import UNLABELLED


def colour(k: int) -> tuple[int, int, int]:
    """A colour for class k; neighbours differ much, and the first, often a background, is grey."""
    if k == 0:
        return 150, 152, 156
    r, g, b = colorsys.hsv_to_rgb(k * 0.618034 % 1, 0.55 + 0.35 * (k % 2), 0.85)
    return round(255 * r), round(255 * g), round(255 * b)


_AREAS = np.array([*map(colour, range(UNLABELLED)), WHITE], dtype=np.uint8)


def coloured(areas: LabelMap) -> Pixels:
    """(H, W) -> (H, W, 3); what is unlabelled is white."""
    pixels: Pixels = _AREAS[areas]
    return pixels

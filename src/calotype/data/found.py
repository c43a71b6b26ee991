"""A picture on disk, and what somebody wrote about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calotype.data.annotations import PixelBox, Size


@dataclass(frozen=True)
class Found:
    """Before classes have numbers and boxes are relative; None where nothing was written.

    Args:
        path: of the picture.
        caption: what it shows.
        label: name of its class.
        boxes: what is where in it.
        frame: width and height in which the boxes' pixels are counted; None = those of the upright picture.
        label_map: a file.
        conditioning_image: a file.
    """

    path: Path
    caption: str | None = None
    label: str | None = None
    boxes: tuple[PixelBox, ...] | None = None
    frame: Size | None = None
    label_map: Path | None = None
    conditioning_image: Path | None = None

"""Which part of a picture is shown, and everything that belongs to a picture cut alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calotype.data.images import Pixels, place, scaled, square, square_box
from calotype.data.source import Record, Source
from calotype.layout import Layout, Window
from calotype.rng import fold

LONGEST = 4
"""A picture whose sides differ more than this is cut before it is scaled, and not kept for other crops."""

LEAST_BOX = 1e-3
"""Share of the cut below which what is left of a box is no object any more."""

LabelMap = NDArray[np.uint8]
"""(H, W): an index into a source's areas at every pixel."""


@dataclass(frozen=True)
class View:
    """A square part of a picture.

    Args:
        x, y: its place, in [0, 1] of what is left over along width and height.
        size: its side, as a share of the picture's short side.
        mirror: whether left and right are exchanged.
    """

    x: float = 0.5
    y: float = 0.5
    size: float = 1.0
    mirror: bool = False


@dataclass(frozen=True)
class Augment:
    """What may happen to a picture in training.

    Args:
        crop: cut the square at a random place along the longer side instead of the middle.
        flip: mirror half of the time.
        zoom: side of the smallest square, as a share of the short side; below 1, squares of every size down to it are
            cut, at random places if `crop`.
    """

    crop: bool = False
    flip: bool = False
    zoom: float = 1.0

    def draw(self, seed: int, sample: int, epoch: int) -> View:
        """The view of a sample in an epoch."""
        bits = fold(seed, "augment", sample, epoch)
        x, y = (bits & 0xFFFF) / 0xFFFF, (bits >> 16 & 0xFFFF) / 0xFFFF
        size = self.zoom + (1 - self.zoom) * (bits >> 33 & 0xFFFF) / 0xFFFF
        mirror = self.flip and bool(bits >> 32 & 1)
        return View(x, y, size, mirror) if self.crop else View(size=size, mirror=mirror)


@dataclass(frozen=True)
class Cut:
    """A picture, or a part of it, with what belongs to it.

    Args:
        pixels: (H, W, 3).
        layout: its boxes, and which part of the original picture it shows.
        label_map: (H, W), or None.
        conditioning_image: (H, W, 3), or None.
    """

    pixels: Pixels
    layout: Layout
    label_map: LabelMap | None
    conditioning_image: Pixels | None

    @classmethod
    def square(cls, record: Record, side: int, view: View) -> Cut:
        """The view of a record, not mirrored."""
        width, height = record.image.size
        left, top, right, bottom = square_box((width, height), side, view.x, view.y, view.size)
        window = Window(left / width, top / height, right / width, bottom / height)

        def cut(image: Image.Image, by: Image.Resampling) -> Pixels:
            return np.asarray(square(image, side, view.x, view.y, view.size, by))

        return cls._of(record, cut, window)

    @classmethod
    def scaled(cls, record: Record, side: int) -> Cut:
        """All of a record, its short side brought to `side`."""
        return cls._of(record, lambda image, by: np.asarray(scaled(image, side, by)), Window())

    @classmethod
    def _of(cls, record: Record, cut: Callable[[Image.Image, Image.Resampling], Pixels], window: Window) -> Cut:
        smooth, nearest = Image.Resampling.LANCZOS, Image.Resampling.NEAREST
        return cls(
            cut(record.image, smooth),
            Layout(record.boxes).cropped(window),
            None if record.label_map is None else cut(record.label_map, nearest),
            None if record.conditioning_image is None else cut(record.conditioning_image, smooth),
        )

    @property
    def nbytes(self) -> int:
        """Memory."""
        return sum(a.nbytes for a in (self.pixels, self.label_map, self.conditioning_image) if a is not None)

    def cropped(self, side: int, view: View) -> Cut:
        """A square of it at the view's place, as large as it is, mirrored if the view is."""
        height, width, _ = self.pixels.shape
        left, top = place((width, height), side, view.x, view.y)
        inside = Window(left / width, top / height, (left + side) / width, (top + side) / height)
        rows, columns = slice(top, top + side), slice(left, left + side)
        cut = Cut(
            self.pixels[rows, columns],
            self.layout.cropped(inside, LEAST_BOX),
            None if self.label_map is None else self.label_map[rows, columns],
            None if self.conditioning_image is None else self.conditioning_image[rows, columns],
        )
        return cut.mirrored() if view.mirror else cut

    def mirrored(self) -> Cut:
        """Left and right exchanged."""
        return Cut(
            self.pixels[:, ::-1],
            self.layout.mirrored(),
            None if self.label_map is None else self.label_map[:, ::-1],
            None if self.conditioning_image is None else self.conditioning_image[:, ::-1],
        )


class Cutter:
    """Views of a source's pictures; those of small sets stay in memory as bytes.

    Args:
        source: the pictures.
        side: pixels of the square they are brought to.
        moves: whether views of whole height or width will be asked for at more than one place.
        room: bytes to keep at most.
    """

    def __init__(self, source: Source, side: int, moves: bool, room: int = 2 << 30) -> None:
        self.source, self.side = source, side
        self._moves, self._room, self._lock = moves, room, threading.Lock()
        self._kept: dict[int, Cut] = {}

    def __call__(self, index: int, view: View) -> Cut:
        """The view of a picture, (side, side); raises `BadImage`. May be called from several threads."""
        # What is kept is all that any view of full size may be cut from. Kept or not, the pixels are the same.
        shown = self._kept.get(index) if view.size == 1 else None
        if shown is None:
            record = self.source[index]
            long = max(record.image.size) > LONGEST * min(record.image.size)
            whole = self._moves and not long and view.size == 1
            shown = Cut.scaled(record, self.side) if whole else Cut.square(record, self.side, view)
            if view.size == 1 and not (self._moves and long):
                self._keep(index, shown)
        return shown.cropped(self.side, view)

    def _keep(self, index: int, shown: Cut) -> None:
        with self._lock:
            if index not in self._kept and self._room >= shown.nbytes:
                self._room -= shown.nbytes
                self._kept[index] = shown

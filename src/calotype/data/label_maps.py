"""Label maps from files: PNG pictures whose values are the numbers of areas, 255 where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from calotype.data.images import MAX_PIXELS, Pixels, decoding
from calotype.data.names import ordinary, printable, tidy
from calotype.errors import BadImage, UserError
from calotype.layout import UNLABELLED

AREAS = "label_map_classes.txt"
"""The names of a folder's areas, one per line."""
MAX_COUNTED = 5_000
"""Label maps that are read to find out how many areas there are, where nobody says it."""


def open_label_map(path: Path, areas: int = UNLABELLED, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A label map as mode "L".

    Args:
        path: a PNG of 8-bit grey, or of palette indices.
        areas: how many there are.
        max_pixels: larger ones are refused.

    Raises:
        BadImage: not such a file, or a number beyond the last area.
    """
    name = printable(str(path))
    with decoding(path, max_pixels, ("PNG",)) as image:
        # Pillow spreads grey of 2 and 4 bits over 0 ... 255, which would be other numbers.
        kind = image.tile[0].args
        if kind not in ("L", "P", "P;1", "P;2", "P;4"):
            raise BadImage(
                f"{name} is a PNG of kind {kind}; a label map is 8-bit grey or has a palette, and its values are the "
                "numbers of areas"
            )
        image.load()
        upright = ImageOps.exif_transpose(image)
        labels = Image.frombytes("L", upright.size, upright.tobytes())  # of a palette, the indices
    if _areas(labels) > areas:
        raise BadImage(
            f"{name} has the label {_areas(labels) - 1}, but there are {areas} areas: 0 ... {areas - 1}, or "
            f"{UNLABELLED} for none"
        )
    return labels


def read_label_map(path: Path, areas: int) -> Pixels:
    """A wished label map, (H, W); raises `BadImage` like `open_label_map`."""
    return np.array(open_label_map(path, areas))


def read_areas(folder: Path, maps: Sequence[Path]) -> tuple[str, ...]:
    """The names of the areas of a folder's label maps: those in `AREAS`, else "area 0", ... up to the largest there is.

    Raises:
        UserError: a file of names that is none, or none and too many maps to look through, or no map that can be read.
    """
    listed = folder / AREAS
    if ordinary(listed):
        return _listed(listed)
    if len(maps) > MAX_COUNTED:
        raise UserError(
            f"{folder} has {len(maps):,} label maps; write the names of their areas into {AREAS}, one per line"
        )
    counts = list(_counted(maps))
    if not counts:
        open_label_map(maps[0])  # which says what is wrong with it
    if not (largest := max(counts, default=0)):
        raise UserError(f"{folder}: no pixel of any label map has a label; write the names of areas into {AREAS}")
    return tuple(f"area {k}" for k in range(largest))


def _areas(labels: Image.Image) -> int:
    """One more than the largest label."""
    return max((label + 1 for label, count in enumerate(labels.histogram()[:UNLABELLED]) if count), default=0)


def _counted(maps: Sequence[Path]) -> Iterator[int]:
    for path in maps:
        try:
            yield _areas(open_label_map(path))
        except BadImage:  # which is said when its picture is asked for
            continue


def _listed(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        lines = file.read(1 << 20).decode("utf-8-sig", errors="replace").rstrip().splitlines()
    names = [tidy(line) for line in lines]
    shown = printable(str(path))
    if not 0 < len(names) <= UNLABELLED:
        raise UserError(f"{shown} has {len(names):,} lines; write the name of an area on each, {UNLABELLED} at most")
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            raise UserError(f"{shown}, line {number} is {name!r}, which names no area of its own; give each a name")
    return tuple(names)

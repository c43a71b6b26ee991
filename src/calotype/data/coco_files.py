"""Where the COCO files of a folder lie: in it, or beside it as COCO itself is unpacked."""

from __future__ import annotations

import fnmatch
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from calotype.data.annotations import Annotations, read_coco
from calotype.data.names import exists, printable
from calotype.errors import UserError

BOXES = ("annotations.json", "_annotations.coco.json", "instances*.json")
CAPTIONS = ("captions*.json",)
"""Names of COCO's files."""
ANNOTATIONS = "annotations"
"""Folder of COCO's files beside the folders that they are about, as COCO itself is unpacked."""


def parts_with_boxes(folder: Path) -> Iterator[str]:
    """Remarks about folders below that have boxes of their own."""
    for name in _inside(folder):
        part = folder / name
        if any(exists(part / file) for file in BOXES if "*" not in file) or _beside(part, BOXES):
            yield f"{printable(name)}/ has boxes that are not read here; name {printable(str(part))} to get them"


def find_coco(folder: Path, patterns: Sequence[str]) -> Annotations | None:
    """The COCO file of a folder that has one of these names; None if there is none.

    Raises:
        UserError: several, or one that is no such file.
    """
    known = _inside(folder)
    files = sorted({folder / name for pattern in patterns for name in fnmatch.filter(known, pattern)})
    if len(files) > 1:
        names = ", ".join(printable(path.name) for path in files)
        raise UserError(f"{folder} holds {names}; keep one of them, the pictures' own")
    files = files or _beside(folder, patterns)
    return read_coco(files[0]) if files else None


def _inside(folder: Path) -> list[str]:
    """Names, sorted. Not by `glob`, which passes over a link in a circle: what has such a name is meant to be read."""
    return sorted(name for _, inner, names in itertools.islice(os.walk(folder), 1) for name in (*inner, *names))


def _beside(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """COCO's own place: `annotations/instances_train2017.json` beside the folder `train2017`."""
    place = folder.absolute()  # which has a name also where the folder is "."
    files = [p.replace("*", f"_{place.name}") for p in patterns if "*" in p]
    return [path for path in (place.parent / ANNOTATIONS / file for file in files) if exists(path)]

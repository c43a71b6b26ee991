"""`metadata.jsonl`: a line of JSON for every picture of a folder, as Hugging Face's imagefolder reads it.

https://huggingface.co/docs/datasets/image_dataset
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calotype.data.annotations import PixelBox, pixel_box
from calotype.data.found import Found
from calotype.data.names import inside, printable, tidy
from calotype.errors import UserError

METADATA = "metadata.jsonl"
MAX_LINE = 16 << 20
"""Characters of a line: a picture's."""


def read_metadata(folder: Path) -> list[Found]:
    """The pictures in the order of their lines.

    Raises:
        UserError: a line that makes no sense, or names a file that is not in the folder.
    """
    found = []
    root, number = folder.resolve(), 0
    with (folder / METADATA).open(encoding="utf-8-sig", errors="replace") as file:
        while line := file.readline(MAX_LINE + 1):
            number += 1
            where = f"{folder / METADATA}, line {number}"
            if len(line) > MAX_LINE:
                raise UserError(f"{where} has more than {MAX_LINE:,} characters; write one object per line")
            if line.strip():
                found.append(_found(_row(line, where), folder, root, where))
    return found


def _found(row: Mapping[str, Any], folder: Path, root: Path, where: str) -> Found:
    def file(key: str) -> Path | None:
        name = _word(row, (key,), where)
        return None if name is None else inside(folder, root, name, where)

    path = inside(folder, root, row["file_name"], where)
    caption, label = _word(row, ("caption", "text"), where), _word(row, ("label", "class"), where)
    return Found(
        path,
        None if caption is None else tidy(caption),
        (tidy(label) or None) if label else None,
        _boxes(row.get("objects"), where),
        label_map=file("label_map"),
        conditioning_image=file("conditioning_image"),
    )


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        raise UserError(f"{where} is not JSON ({error}); write one object per line") from error
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise UserError(f'{where} has no \'file_name\'; write {{"file_name": "cat.png", "caption": "a cat"}}')
    return row


def _word(row: Mapping[str, Any], keys: tuple[str, ...], where: str) -> str | None:
    """The first of these keys that is there and not null."""
    for key in keys:
        value = row.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserError(f"{where}: {key!r} is {str(value)[:80]}; write text or a number, or leave it out")
        return str(value)
    return None


def _boxes(objects: object, where: str) -> tuple[PixelBox, ...] | None:
    if objects is None:
        return None
    boxes = objects.get("bbox") if isinstance(objects, dict) else None
    names = (objects.get("categories") or objects.get("category")) if isinstance(objects, dict) else None
    if boxes == [] and not names:
        return ()
    if not isinstance(boxes, list) or not isinstance(names, list) or len(boxes) != len(names):
        raise UserError(
            f'{where}: \'objects\' is no {{"bbox": [[x, y, width, height], ...], "categories": [...]}} with as many '
            "boxes as categories; correct or remove it"
        )
    return tuple(
        pixel_box(box, _category(name, f"{where}, box {k}"), f"{where}, box {k}")
        for k, (box, name) in enumerate(zip(boxes, names, strict=True), 1)
    )


def _category(name: object, where: str) -> str:
    if type(name) not in (str, int) or not (known := tidy(str(name))):
        raise UserError(f"{where}: the category is {printable(str(name)[:80])!r}; write its name or number")
    return known

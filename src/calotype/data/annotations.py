"""Boxes from files: COCO's JSON, and a short form for wishes.

COCO (https://cocodataset.org/#format-data) lists "images", "annotations" and "categories"; a box is [x, y, width,
height] in pixels. Most labelling tools export it.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from calotype.data.names import printable, strange, tidy
from calotype.errors import UnknownName, UserError
from calotype.layout import LEAST, Box, Layout

MAX_BYTES = 2 << 30
"""Of a data set's annotations; COCO's own are half a gigabyte."""
MAX_WISH_BYTES = 16 << 20
"""Of a file of wished layouts."""
MAX_BAD = 0.05
"""The share of a data set's boxes that may be useless before it is taken for a mistake."""
INSIDE = 0.5
"""The share of a box that must lie in its picture."""

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class PixelBox:
    """A box in pixels, as it was written.

    Args:
        category: name of what it holds.
        x, y, width, height: upper left corner and extent.
        where: names it to people.
    """

    category: str
    x: float
    y: float
    width: float
    height: float
    where: str

    def relative(self, label: int, size: Size) -> Box | None:
        """In a picture of this size, clipped; None if it has no extent or lies mostly outside."""
        x0, x1 = (min(max(x, 0.0), size[0]) / size[0] for x in (self.x, self.x + self.width))
        y0, y1 = (min(max(y, 0.0), size[1]) / size[1] for y in (self.y, self.y + self.height))
        if not (x1 - x0 >= LEAST and y1 - y0 >= LEAST):
            return None
        share = (x1 - x0) * (y1 - y0) * size[0] * size[1] / (self.width * self.height)
        return Box(label, x0, y0, x1, y1) if share > INSIDE else None

    def sticks_out(self, size: Size) -> bool:
        """By more than the pixel that rounding explains."""
        right, bottom = self.x + self.width - size[0], self.y + self.height - size[1]
        return max(-self.x, -self.y, right, bottom) > 1


@dataclass(frozen=True)
class Annotated:
    """What a file says about one picture.

    Args:
        name: of the picture's file; "" if that is not said, which a wish need not.
        size: in which its boxes' pixels are counted, if that is said.
        boxes: in the file's order.
        captions: in the file's order.
        where: names the entry to people.
    """

    name: str
    size: Size | None
    boxes: tuple[PixelBox, ...]
    captions: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class Annotations:
    """What a COCO file holds.

    Args:
        name: of the file.
        categories: their names, in the order of their ids.
        pictures: in the file's order.
        repeated: annotations that have the id of an earlier one, and are left out: an id is given once.
    """

    name: str
    categories: tuple[str, ...]
    pictures: tuple[Annotated, ...]
    repeated: int


def read_coco(path: Path) -> Annotations:
    """The boxes and captions of a COCO file; those of crowds are left out.

    Raises:
        UserError: not such a file, or an entry that makes no sense or refers to what is not there.
    """
    return _coco(_json(path, MAX_BYTES), printable(str(path)))


def read_layouts(path: Path, classes: Sequence[str]) -> list[Layout]:
    """Wished layouts: a COCO file whose images have "width" and "height", or lists such as
    `[{"class": "heart", "box": [0.1, 0.2, 0.6, 0.7]}]` with the corners x0, y0, x1, y1 relative to the picture; a list
    of lists is several layouts.

    Args:
        classes: the model's; they are matched by name, whatever the case.

    Raises:
        UserError: not such a file, a box outside its picture, or a class that the model does not know.
    """
    value, where = _json(path, MAX_WISH_BYTES), printable(str(path))
    if isinstance(value, dict):
        coco = _coco(value, where)
        if coco.repeated:
            raise UserError(f"{where}: {coco.repeated:,} annotations have the id of an earlier one; give each its own")
        layouts = [_of_coco(picture, classes) for picture in coco.pictures]
    elif not isinstance(value, list):
        raise UserError(f'{where} holds no layouts; write [{{"class": "heart", "box": [0.1, 0.2, 0.6, 0.7]}}]')
    elif value and all(isinstance(item, list) for item in value):
        layouts = [_short(item, classes, f"{where}, layout {k}") for k, item in enumerate(value, 1)]
    else:
        layouts = [_short(value, classes, where)]
    if not layouts:
        raise UserError(f"{where} lists no images; a layout is wished for each of them")
    return layouts


def turned(box: Box, turn: Image.Transpose) -> Box:
    """Where a box is after its picture was turned, if width and height change places by that."""
    corners = [_TURNED[turn](x, y) for x, y in ((box.x0, box.y0), (box.x1, box.y1))]
    (x0, x1), (y0, y1) = (sorted(values) for values in zip(*corners, strict=True))
    return Box(box.label, x0, y0, x1, y1)


_TURNED: dict[Image.Transpose, Callable[[float, float], tuple[float, float]]] = {
    Image.Transpose.TRANSPOSE: lambda x, y: (y, x),
    Image.Transpose.ROTATE_270: lambda x, y: (1 - y, x),
    Image.Transpose.TRANSVERSE: lambda x, y: (1 - y, 1 - x),
    Image.Transpose.ROTATE_90: lambda x, y: (y, 1 - x),
}


class Sieve:
    """Makes relative boxes out of pixels and leaves out those that are none, as long as they are few."""

    def __init__(self) -> None:
        self.seen, self.bad, self.first = 0, 0, ""

    def __call__(self, boxes: Iterable[PixelBox], labels: Mapping[str, int], size: Size) -> tuple[Box, ...]:
        """What is left of a picture's boxes."""
        kept = []
        for box in boxes:
            self.seen += 1
            found = box.relative(labels[box.category], size)
            if found is not None:
                kept.append(found)
                continue
            self.bad += 1
            if not self.first:
                corner_and_extent = [box.x, box.y, box.width, box.height]
                self.first = f"{box.where}, {corner_and_extent} in a picture of {size[0]} x {size[1]}"
        return tuple(kept)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What people should know."""
        return (f"{self.bad:,} of {self.seen:,} boxes are left out: no extent, or outside",) * (self.bad > 0)

    def check(self) -> None:
        """Raise `UserError` if too many were left out."""
        if self.bad > MAX_BAD * self.seen:
            raise UserError(
                f"{self.bad:,} of {self.seen:,} boxes have no extent or lie mostly outside their pictures, the first: "
                f"{self.first}; write x, y, width and height in pixels"
            )


def pixel_box(value: object, category: str, where: str) -> PixelBox:
    """The box [x, y, width, height]; raises `UserError`."""
    x, y, width, height = _four(value, where, "x, y, width and height in pixels")
    return PixelBox(category, x, y, width, height, where)


def _shown(value: object) -> str:
    return printable(str(value)[:80])


def _four(value: object, where: str, what: str) -> list[float]:
    if isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float) for v in value):
        try:
            numbers = [float(v) for v in value]
        except OverflowError:
            numbers = [math.inf]
        if all(map(math.isfinite, numbers)):
            return numbers
    raise UserError(f"{where}: the box is {_shown(value)}; write four numbers, {what}")


def _json(path: Path, most: int) -> Any:
    where = printable(str(path))
    if strange(path):  # a device would be read for ever
        raise UserError(f"{where} is no ordinary file; put one there, or remove it")
    try:
        if path.stat().st_size > most:
            raise UserError(f"{where} has {path.stat().st_size:,} bytes, more than {most:,}; divide it")
        with path.open(encoding="utf-8-sig") as file:
            return json.load(file)
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror}); name a JSON file") from error
    except UserError:
        raise
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number of thousands of digits, too deep
        raise UserError(f"{where} is not JSON ({str(error)[:200]}); write it anew") from error


def _coco(value: Any, where: str) -> Annotations:
    if not isinstance(value, dict):
        raise UserError(f"{where} is no COCO file: it holds no object; rename it if it is something else")
    names = _categories(value, where)
    images = {key: (entry, told) for key, entry, told in _entries(value, "images", "image", where)}
    boxes: dict[Any, list[PixelBox]] = defaultdict(list)
    captions: dict[Any, list[str]] = defaultdict(list)
    seen: set[Any] = set()
    repeated = 0
    for key, entry, told in _entries(value, "annotations", "annotation", where):
        if "id" in entry:  # else `key` counts, and may be another's id
            if key in seen:
                repeated += 1
                continue
            seen.add(key)
        image = entry.get("image_id")
        if not isinstance(image, int | str) or image not in images:
            raise UserError(f"{told} belongs to image {_shown(image)}, which is not under 'images'; add or remove it")
        if isinstance(entry.get("caption"), str):
            captions[image].append(tidy(entry["caption"]))
        if "bbox" not in entry or entry.get("iscrowd"):
            continue
        category = entry.get("category_id")
        if not isinstance(category, int | str) or category not in names:
            raise UserError(
                f"{told} has category {_shown(category)}, which is not under 'categories'; add or correct it"
            )
        boxes[image].append(pixel_box(entry["bbox"], names[category], told))
    pictures = tuple(
        Annotated(_file_name(entry), _size(entry, told), tuple(boxes[key]), tuple(captions[key]), told)
        for key, (entry, told) in images.items()
    )
    return Annotations(where, tuple(names.values()), pictures, repeated)


def _file_name(entry: Mapping[str, Any]) -> str:
    name = entry.get("file_name")
    return name if isinstance(name, str) else ""


def _entries(value: Mapping[str, Any], key: str, noun: str, where: str) -> Iterator[tuple[Any, dict[str, Any], str]]:
    """(id, entry, what to call it) of a COCO list."""
    found = value.get(key)
    if not isinstance(found, list):
        raise UserError(f"{where} is no COCO file: it has no list {key!r}; rename it if it is something else")
    seen = set()
    for number, entry in enumerate(found, 1):
        identity = entry.get("id", None if noun != "annotation" else number) if isinstance(entry, dict) else None
        if not isinstance(identity, int | str):
            raise UserError(f"{where}: {noun} number {number} has no 'id'; give it one")
        if noun != "annotation" and identity in seen:
            raise UserError(f"{where}: the id {_shown(identity)!r} under {key!r} is given twice; give each its own")
        seen.add(identity)
        yield identity, entry, f"{where}, {noun} {_shown(identity)}"


def _categories(value: Mapping[str, Any], where: str) -> dict[Any, str]:
    """id -> name, in the order of the ids; a file of captions has none."""
    if value.get("categories") is None:
        return {}
    names = {}
    for key, entry, told in _entries(value, "categories", "category", where):
        name = entry.get("name")
        if not isinstance(name, str) or not tidy(name):
            raise UserError(f"{told} has no 'name'; give it one")
        names[key] = tidy(name)
    if len(set(names.values())) < len(names):
        twice = Counter(names.values()).most_common(1)[0][0]
        raise UserError(f"{where}: two categories are called {twice!r}; give each its own name")
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _size(entry: Mapping[str, Any], where: str) -> Size | None:
    width, height = entry.get("width"), entry.get("height")
    if width is None or height is None:
        return None
    if not (type(width) is int and type(height) is int and 0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise UserError(f"{where} is {_shown(width)} x {_shown(height)}; write width and height in pixels")
    return width, height


def _label(name: str, classes: Sequence[str], where: str) -> int:
    """Which class a name means: the one written so, else the one that differs in case alone; raises `UserError`."""
    if name in classes:
        return classes.index(name)
    folded = [c.casefold() for c in classes]
    if name.casefold() not in folded:
        raise UserError(f"{where}: {UnknownName('class of objects', _shown(name), classes)}")
    return folded.index(name.casefold())


def _of_coco(picture: Annotated, classes: Sequence[str]) -> Layout:
    if picture.size is None:
        raise UserError(f"{picture.where} has no 'width' and 'height'; its boxes' pixels are counted in them")
    found = []
    for box in picture.boxes:
        seen = box.relative(_label(box.category, classes, box.where), picture.size)
        if seen is None or box.sticks_out(picture.size):
            raise UserError(
                f"{box.where} lies outside the picture or has no extent: {[box.x, box.y, box.width, box.height]} in "
                f"{picture.size[0]} x {picture.size[1]} pixels; write x, y, width and height"
            )
        found.append(seen)
    return Layout(tuple(found))


def _short(items: Sequence[Any], classes: Sequence[str], where: str) -> Layout:
    found = []
    for number, item in enumerate(items, 1):
        told = f"{where}, box {number}"
        if not isinstance(item, dict) or not isinstance(item.get("class"), str) or "box" not in item:
            raise UserError(
                f'{told} is {_shown(item)}; write {{"class": "heart", "box": [0.1, 0.2, 0.6, 0.7]}}, the corners '
                "x0, y0, x1, y1 relative to the picture"
            )
        corners = _four(item["box"], told, "the corners x0, y0, x1, y1")
        label = _label(item["class"], classes, told)
        try:
            found.append(Box(label, *corners))
        except UserError as error:
            raise UserError(f"{told}: {error}") from error
    return Layout(tuple(found))

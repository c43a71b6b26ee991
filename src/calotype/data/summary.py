"""What a source holds, before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from calotype.data.colours import colour, coloured
from calotype.data.images import Pixels, square
from calotype.data.source import Record, Source
from calotype.data.view import Cut, View
from calotype.errors import BadImage
from calotype.layout import UNLABELLED, Box


@dataclass(frozen=True)
class Summary:
    """A source in numbers.

    Args:
        name: the source.
        pictures: how many there are, readable or not.
        sizes: (width, height) -> how many.
        classes: class name -> how many; empty without classes.
        captioned: how many have a caption.
        captions: how many different captions there are.
        longest: the longest caption.
        bad: name of each picture that cannot be used -> why.
        duplicates: groups of names whose pictures are equal when cut square and scaled to 16 x 16.
        objects: class of boxes -> how many; empty without boxes.
        most_boxes: the boxes of the picture that has the most.
        areas: class of label maps -> its share of the pixels of all; empty without label maps.
        paired: whether there are conditioning images.
        remarks: what people should know about it.
    """

    name: str
    pictures: int
    sizes: dict[tuple[int, int], int]
    classes: dict[str, int]
    captioned: int
    captions: int
    longest: str
    bad: dict[str, str]
    duplicates: list[list[str]]
    objects: dict[str, int]
    most_boxes: int
    areas: dict[str, float]
    paired: bool
    remarks: tuple[str, ...]

    @property
    def smallest_side(self) -> int:
        """The shortest side of any readable picture, in pixels; 0 if there is none."""
        return min((min(size) for size in self.sizes), default=0)


def summarize(
    source: Source, thumbnails: int = 32, side: int = 64, advance: Callable[[int], None] = lambda n: None
) -> tuple[Summary, list[tuple[Pixels, str]]]:
    """Read every picture once.

    Args:
        thumbnails: how many pictures to keep for a contact sheet, spread evenly over the source.
        side: their size in pixels.
        advance: told how many pictures were read.

    Returns:
        The summary, and the thumbnails with what is known of each: (side, side, 3), or (side, 2 side, 3) and (side,
        3 side, 3) with the label map and the conditioning image where there are such; boxes are drawn.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    bad: dict[str, str] = {}
    seen: dict[bytes, list[str]] = {}
    shown: list[tuple[Pixels, str]] = []
    objects: Counter[int] = Counter()
    most_boxes, labelled = 0, np.zeros(UNLABELLED + 1, dtype=np.int64)
    wanted = {k * len(source) // thumbnails for k in range(thumbnails)}
    for i in range(len(source)):
        advance(1)
        try:
            record = source[i]
        except BadImage as error:
            bad[source.key(i)] = str(error)
            continue
        sizes[record.image.size] += 1
        objects.update(box.label for box in record.boxes)
        most_boxes = max(most_boxes, len(record.boxes))
        if record.label_map is not None:
            labelled += record.label_map.histogram()
        tiny = hashlib.blake2b(square(record.image, 16).tobytes(), digest_size=16).digest()
        seen.setdefault(tiny, []).append(record.key)
        if i in wanted:
            label = source.classes[record.label] if record.label >= 0 else ""
            shown.append((_thumbnail(record, side), record.caption or label or record.key))
    blank = source.areas and sizes and not labelled[:UNLABELLED].any()
    captions, labels = source.captions(), Counter(source.labels())
    summary = Summary(
        source.name,
        len(source),
        dict(sizes.most_common()),
        {name: labels[k] for k, name in enumerate(source.classes)},
        sum(1 for c in captions if c),
        len({c for c in captions if c}),
        max(captions, key=len, default=""),
        bad,
        [names for names in seen.values() if len(names) > 1],
        {name: objects[k] for k, name in enumerate(source.objects)},
        most_boxes,
        {name: float(labelled[k] / max(1, labelled.sum())) for k, name in enumerate(source.areas)},
        source.paired,
        (*source.remarks, *["no pixel of any label map has a label"] * bool(blank)),
    )
    return summary, shown


def _thumbnail(record: Record, side: int) -> Pixels:
    cut = Cut.square(record, side, View())
    panels = [_outlined(cut.pixels, cut.layout.boxes)]
    if cut.label_map is not None:
        panels.append(coloured(cut.label_map))
    if cut.conditioning_image is not None:
        panels.append(cut.conditioning_image)
    return np.concatenate(panels, axis=1)


def _outlined(pixels: Pixels, boxes: Sequence[Box]) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for box in boxes:
        corners = (box.x0 * width, box.y0 * height, box.x1 * width - 1, box.y1 * height - 1)
        if corners[0] <= corners[2] and corners[1] <= corners[3]:  # else it is smaller than a pixel
            draw.rectangle(corners, outline=colour(box.label))
    return np.asarray(image)

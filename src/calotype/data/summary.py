"""What a source holds, before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calotype.data.images import square
from calotype.data.source import Source
from calotype.errors import BadImage


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

    @property
    def smallest_side(self) -> int:
        """The shortest side of any readable picture, in pixels; 0 if there is none."""
        return min((min(size) for size in self.sizes), default=0)


def summarize(
    source: Source, thumbnails: int = 32, side: int = 64, advance: Callable[[int], None] = lambda n: None
) -> tuple[Summary, list[tuple[NDArray[np.uint8], str]]]:
    """Read every picture once.

    Args:
        thumbnails: how many pictures to keep for a contact sheet, spread evenly over the source.
        side: their size in pixels.
        advance: told how many pictures were read.

    Returns:
        The summary, and the thumbnails (side, side, 3) with what is known of each.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    bad: dict[str, str] = {}
    seen: dict[bytes, list[str]] = {}
    shown: list[tuple[NDArray[np.uint8], str]] = []
    wanted = {k * len(source) // thumbnails for k in range(thumbnails)}
    for i in range(len(source)):
        advance(1)
        try:
            record = source[i]
        except BadImage as error:
            bad[source.key(i)] = str(error)
            continue
        sizes[record.image.size] += 1
        tiny = hashlib.blake2b(square(record.image, 16).tobytes(), digest_size=16).digest()
        seen.setdefault(tiny, []).append(record.key)
        if i in wanted:
            label = source.classes[record.label] if record.label >= 0 else ""
            shown.append((np.asarray(square(record.image, side)), record.caption or label or record.key))
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
    )
    return summary, shown

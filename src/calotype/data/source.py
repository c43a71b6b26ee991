"""Where pictures come from.

A `Source` is a list of records, each a picture with what is known about it. `open_source("embedded:fluent-people")` or
`open_source("my/photos")` gives one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from calotype.layout import Box
from calotype.registry import Registry


@dataclass(frozen=True)
class Record:
    """One picture.

    Args:
        image: RGB.
        caption: "" if there is none.
        label: index into the source's classes, -1 if there is none.
        key: names the picture to people (a file name).
        boxes: what is where in it; labels are indices into the source's objects.
        label_map: mode "L", as large as the picture: at every pixel an index into the source's areas, or `UNLABELLED`;
            None where the source has no areas.
        conditioning_image: RGB, of the picture's shape: what the picture is to be made from (a drawing, an edge map);
            None where the source is not paired.
    """

    image: Image.Image
    caption: str
    label: int
    key: str
    boxes: tuple[Box, ...] = ()
    label_map: Image.Image | None = None
    conditioning_image: Image.Image | None = None


class Source(ABC):
    """A finite list of pictures. Records are decoded when they are asked for."""

    name: str
    classes: tuple[str, ...]
    objects: tuple[str, ...] = ()
    """Classes of what boxes hold; none where there are no boxes."""
    areas: tuple[str, ...] = ()
    """Classes of a label map's pixels; none where there are no label maps. Every picture has one, or none has."""
    paired: bool = False
    """Whether every picture comes with a conditioning image."""
    remarks: tuple[str, ...] = ()
    """What people should know about it: what was left out."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of pictures."""

    @property
    def total(self) -> int:
        """Number of pictures of the set that this is all or a part of; shares of bad pictures refer to it."""
        return len(self)

    @abstractmethod
    def __getitem__(self, index: int) -> Record:
        """Decode one; raises `BadImage`."""

    @abstractmethod
    def captions(self) -> Sequence[str]:
        """All captions, in order, without decoding pictures; "" where there is none."""

    @abstractmethod
    def labels(self) -> Sequence[int]:
        """All labels, in order; -1 where there is none."""

    @abstractmethod
    def key(self, index: int) -> str:
        """The name of one picture."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of what the source holds (names and sizes, or bytes), for caches."""


class SourceConfig(Protocol):
    """What opens a source: a frozen dataclass whose fields are the choices there are."""

    def open(self) -> Source:
        """The source; raises `UserError` if its choices make no sense."""


sources: Registry[SourceConfig] = Registry("source", "calotype.data")

"""Pictures that come with the package: nothing has to be downloaded to try everything.

    embedded:fluent            2,781 Fluent emoji, 64 x 64, captions, 8 categories
    embedded:fluent-people     the People & Body and Smileys & Emotion part of it
    embedded:fashion           10,000 of Fashion-MNIST, 28 x 28, 10 classes
    embedded:photos            12 photographs
    embedded:photo-crops       768 squares cut out of them

A name may end in `/train` or `/val` (fluent only: split by concept, so that skin-tone twins stay together).
Licences: see NOTICE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calotype.data.images import WHITE, open_image
from calotype.data.source import Record, Source, SourceConfig, sources
from calotype.errors import UnknownName, UserError
from calotype.rng import fold

PEOPLE = ("People & Body", "Smileys & Emotion")
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
NAMES = ("fluent", "fluent-people", "fashion", "photos", "photo-crops")
SPLITS = ("train", "val", "all")
SMALLEST = 96
"""Pixels of the smallest crop of a photograph."""


def _npz(name: str) -> dict[str, NDArray[Any]]:
    with as_file(files("calotype.data") / "embedded" / name) as path, np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _texts(array: NDArray[Any]) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in array]


class Fluent(Source):
    """Microsoft's Fluent emoji on a plain background; the class is the category.

    Args:
        categories: which to take; all if empty.
        split: "train", "val" or "all".
        background: the colour behind the emoji.
    """

    def __init__(
        self, categories: Sequence[str] = (), split: str = "all", background: tuple[int, int, int] = WHITE
    ) -> None:
        data = _npz("fluent64.npz")
        names = _texts(data["category_names"])
        for category in categories:
            if category not in names:
                raise UnknownName("category", category, names)
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        self.classes = tuple(c for c in names if not categories or c in categories)
        kept = np.isin(data["category"], [names.index(c) for c in self.classes])
        if split != "all":
            kept &= data["val"] == (split == "val")
        self._rows = np.flatnonzero(kept)
        self._webp, self._offsets = data["webp"].tobytes(), data["offsets"]
        captions, categories_of = _texts(data["caption"]), [names[c] for c in data["category"]]
        self._captions = [captions[i] for i in self._rows]
        self._labels = [self.classes.index(categories_of[i]) for i in self._rows]
        self._background = background
        self.name = f"fluent ({', '.join(self.classes)}; {split})" if categories else f"fluent ({split})"

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        i = self._rows[index]
        content = self._webp[self._offsets[i] : self._offsets[i + 1]]
        image = open_image(content, background=self._background)
        return Record(image, self._captions[index], self._labels[index], self.key(index))

    def captions(self) -> Sequence[str]:
        return self._captions

    def labels(self) -> Sequence[int]:
        return self._labels

    def key(self, index: int) -> str:
        return f"fluent/{self._rows[index]:04d}"

    def fingerprint(self) -> str:
        h = hashlib.sha256(self._webp)
        h.update(self._rows.astype("<i8").tobytes() + repr(self._background).encode())
        return "fluent-" + h.hexdigest()[:16]


class Fashion(Source):
    """Zalando's Fashion-MNIST; the caption is the class name."""

    name, classes = "fashion", FASHION

    def __init__(self) -> None:
        data = _npz("fashion10k.npz")
        self._images, self._labels = data["image"], [int(label) for label in data["label"]]
        self._captions = [FASHION[label].lower() for label in self._labels]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        image = Image.fromarray(self._images[index]).convert("RGB")
        return Record(image, self._captions[index], self._labels[index], self.key(index))

    def captions(self) -> Sequence[str]:
        return self._captions

    def labels(self) -> Sequence[int]:
        return self._labels

    def key(self, index: int) -> str:
        return f"fashion/{index:05d}"

    def fingerprint(self) -> str:
        return "fashion-" + hashlib.sha256(self._images.tobytes()).hexdigest()[:16]


class Photos(Source):
    """Twelve photographs from scikit-image's data folder; the caption is the file's name.

    Args:
        crops: squares of `SMALLEST` pixels or more to cut out of each, always the same ones; 0 = the whole photographs.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, crops: int = 0) -> None:
        if crops < 0:
            raise UserError(f"a photograph cannot have {crops} crops; take 0 for whole photographs, or more")
        folder = files("calotype.data") / "embedded" / "photos12"
        found = sorted((f for f in folder.iterdir() if f.name.endswith(".jpg")), key=lambda f: f.name)
        self._names, self._content = [f.name.removesuffix(".jpg") for f in found], [f.read_bytes() for f in found]
        self._crops, self._each = crops, max(1, crops)
        self._captions = [name.replace("_", " ") for name in self._names for _ in range(self._each)]
        self.name = f"photos ({crops} crops of each)" if crops else "photos"

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index: int) -> Record:
        image = open_image(self._content[range(len(self))[index] // self._each])
        return Record(self._cut(image, index) if self._crops else image, self._captions[index], -1, self.key(index))

    def _cut(self, image: Image.Image, index: int) -> Image.Image:
        bits = fold(0, "crop", index)
        largest = min(image.size)
        side = SMALLEST + bits % (largest - SMALLEST + 1) if largest > SMALLEST else largest
        left, top = (bits >> 16) % (image.width - side + 1), (bits >> 32) % (image.height - side + 1)
        return image.crop((left, top, left + side, top + side))

    def captions(self) -> Sequence[str]:
        return self._captions

    def labels(self) -> Sequence[int]:
        return [-1] * len(self)

    def key(self, index: int) -> str:
        name = f"photos/{self._names[index // self._each]}.jpg"
        return f"{name}#{index % self._each}" if self._crops else name

    def fingerprint(self) -> str:
        h = hashlib.sha256(repr(self._crops).encode())
        for content in self._content:
            h.update(content)
        return "photos-" + h.hexdigest()[:16]


@sources.register("fluent")
@dataclass(frozen=True)
class FluentConfig(SourceConfig):
    """Fluent emoji with captions; the class is the category."""

    categories: tuple[str, ...] = ()
    split: str = "all"
    background: tuple[int, int, int] = WHITE

    def open(self) -> Fluent:
        return Fluent(self.categories, self.split, self.background)


@sources.register("fluent-people")
@dataclass(frozen=True)
class FluentPeopleConfig(SourceConfig):
    """The faces, hands and people among the Fluent emoji."""

    split: str = "all"
    background: tuple[int, int, int] = WHITE

    def open(self) -> Fluent:
        return Fluent(PEOPLE, self.split, self.background)


@sources.register("fashion")
@dataclass(frozen=True)
class FashionConfig(SourceConfig):
    """Ten thousand grey pictures of clothes in ten classes."""

    def open(self) -> Fashion:
        return Fashion()


@sources.register("photos")
@dataclass(frozen=True)
class PhotosConfig(SourceConfig):
    """Twelve photographs, whole."""

    def open(self) -> Photos:
        return Photos()


@sources.register("photo-crops")
@dataclass(frozen=True)
class PhotoCropsConfig(SourceConfig):
    """Squares cut out of twelve photographs."""

    crops: int = 64

    def open(self) -> Photos:
        return Photos(self.crops)


def embedded(name: str) -> Source:
    """The source called `embedded:NAME` or `embedded:NAME/SPLIT`; raises `UnknownName`, `UserError`."""
    base, _, split = name.partition("/")
    if base not in NAMES:
        raise UnknownName("embedded data set", base, NAMES)
    member: type[SourceConfig] = sources[base]
    if not split:
        return member().open()
    if "split" not in {f.name for f in fields(member)}:  # type: ignore[arg-type]  # members are dataclasses
        raise UserError(f"embedded:{base} has no split {split!r}; leave it out")
    return sources.create(base, split=split).open()

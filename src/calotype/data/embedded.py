"""Pictures that come with the package: nothing has to be downloaded to try everything.

    embedded:fluent            2,781 Fluent emoji, 64 x 64, captions, 8 categories
    embedded:fluent-people     the People & Body and Smileys & Emotion part of it
    embedded:fashion           10,000 of Fashion-MNIST, 28 x 28, 10 classes
    embedded:photos            12 photographs
    embedded:photo-crops       768 squares cut out of them
    embedded:mixed             emoji, photo crops and a part of the clothes, each a class
    embedded:scenes            4,096 + 512 photo crops with one to three emoji on each: boxes, label maps, drawings
                               (`data/scenes.py`)

A name may end in `/train` or `/val`: emoji are split by concept, so that skin-tone twins stay together, clothes by
number, photographs by place: the right quarter of each is held back.
Licences: see NOTICE.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calotype.data.images import WHITE, open_image
from calotype.data.source import Record, Source, SourceConfig, sources
from calotype.data.subset import Subset
from calotype.data.union import Union
from calotype.errors import UnknownName, UserError
from calotype.rng import fold

PEOPLE = ("People & Body", "Smileys & Emotion")
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
NAMES = ("fluent", "fluent-people", "fashion", "photos", "photo-crops", "mixed", "scenes")
SPLITS = ("train", "val", "all")
SMALLEST = 96
"""Pixels of the smallest crop of a photograph."""
EVERY = 10
"""Every tenth garment belongs to the "val" split, and every tenth of either split to "mixed"."""


def _in_split(name: str, held_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows belong to the split; raises `UnknownName`."""
    if name not in SPLITS:
        raise UnknownName("split", name, SPLITS)
    return np.ones_like(held_out) if name == "all" else held_out == (name == "val")


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

    Attributes:
        subcategories: of each emoji, one of 94.
        held_out: of each emoji, whether it belongs to "val".
    """

    def __init__(
        self, categories: Sequence[str] = (), split: str = "all", background: tuple[int, int, int] = WHITE
    ) -> None:
        data = _npz("fluent64.npz")
        names = _texts(data["category_names"])
        for category in categories:
            if category not in names:
                raise UnknownName("category", category, names)
        self.classes = tuple(c for c in names if not categories or c in categories)
        chosen = np.isin(data["category"], [names.index(c) for c in self.classes])
        self._rows = np.flatnonzero(chosen & _in_split(split, data["val"]))
        self._webp, self._offsets = data["webp"].tobytes(), data["offsets"]
        captions, categories_of = _texts(data["caption"]), [names[c] for c in data["category"]]
        subcategories = _texts(data["subcategory_names"])
        self.subcategories = [subcategories[data["subcategory"][i]] for i in self._rows]
        self.held_out = [bool(data["val"][i]) for i in self._rows]
        self._captions = [captions[i] for i in self._rows]
        self._labels = [self.classes.index(categories_of[i]) for i in self._rows]
        self._background = background
        self.name = f"fluent ({', '.join(self.classes)}; {split})" if categories else f"fluent ({split})"

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        image = open_image(self._content(index), background=self._background)
        return Record(image, self._captions[index], self._labels[index], self.key(index))

    def sprite(self, index: int) -> Image.Image:
        """One emoji without a background: RGBA, 64 x 64."""
        with Image.open(io.BytesIO(self._content(index)), formats=("WEBP",)) as image:
            return image.convert("RGBA")

    def _content(self, index: int) -> bytes:
        i = self._rows[index]
        return self._webp[self._offsets[i] : self._offsets[i + 1]]

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
    """Zalando's Fashion-MNIST; the caption is the class name.

    Args:
        split: "train", "val" or "all".
    """

    classes = FASHION

    def __init__(self, split: str = "all") -> None:
        data = _npz("fashion10k.npz")
        self._rows = np.flatnonzero(_in_split(split, np.arange(len(data["image"])) % EVERY == 0))
        self._images, self._labels = data["image"][self._rows], [int(label) for label in data["label"][self._rows]]
        self._captions = [FASHION[label].lower() for label in self._labels]
        self.name = "fashion" if split == "all" else f"fashion ({split})"

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
        return f"fashion/{self._rows[index]:05d}"

    def fingerprint(self) -> str:
        return "fashion-" + hashlib.sha256(self._images.tobytes()).hexdigest()[:16]


class Photos(Source):
    """Twelve photographs from scikit-image's data folder; the caption is the file's name.

    Twelve are too few to hold some back: what is in one is in no other. So a split cuts each photograph instead, and no
    pixel is in both parts.

    Args:
        crops: squares of `SMALLEST` pixels or more to cut out of each, always the same ones; 0 = the whole photographs.
        split: "train" (the left three quarters), "val" (the right quarter, with a quarter of the crops) or "all".

    Raises:
        UserError: a negative number of crops.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, crops: int = 0, split: str = "all") -> None:
        if crops < 0:
            raise UserError(f"a photograph cannot have {crops} crops; take 0 for whole photographs, or more")
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        folder = files("calotype.data") / "embedded" / "photos12"
        found = sorted((f for f in folder.iterdir() if f.name.endswith(".jpg")), key=lambda f: f.name)
        self._names, self._content = [f.name.removesuffix(".jpg") for f in found], [f.read_bytes() for f in found]
        self._crops, self._split = crops, split
        self._each = max(1, crops // 4 if split == "val" else crops)
        self._captions = [name.replace("_", " ") for name in self._names for _ in range(self._each)]
        told = [*([f"{self._each} crops of each"] if crops else []), *([split] if split != "all" else [])]
        self.name = f"photos ({'; '.join(told)})" if told else "photos"

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, index: int) -> Record:
        index = range(len(self))[index]
        image = open_image(self._content[index // self._each])
        if self._crops:
            image = self.cut(image, fold(0, "crop", index))
        return Record(image, self._captions[index], -1, self.key(index))

    def cut(self, image: Image.Image, bits: int) -> Image.Image:
        """A square of `SMALLEST` pixels or more out of the split's part of a photograph.

        Args:
            image: the whole photograph.
            bits: 63 random ones, which say where.
        """
        edge = image.width * 3 // 4
        first, end = {"train": (0, edge), "val": (edge, image.width), "all": (0, image.width)}[self._split]
        largest = min(end - first, image.height)
        side = SMALLEST + bits % (largest - SMALLEST + 1) if largest > SMALLEST else largest
        left, top = first + (bits >> 16) % (end - first - side + 1), (bits >> 32) % (image.height - side + 1)
        return image.crop((left, top, left + side, top + side))

    def captions(self) -> Sequence[str]:
        return self._captions

    def labels(self) -> Sequence[int]:
        return [-1] * len(self)

    def key(self, index: int) -> str:
        name = f"photos/{self._names[index // self._each]}.jpg"
        part = "" if self._split == "all" else f"{self._split}-"
        return f"{name}#{part}{index % self._each}" if self._crops else name

    def fingerprint(self) -> str:
        h = hashlib.sha256(repr(self._crops if self._split == "all" else (self._crops, self._split)).encode())
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

    split: str = "all"

    def open(self) -> Fashion:
        return Fashion(self.split)


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
    split: str = "all"

    def open(self) -> Photos:
        return Photos(self.crops, self.split)


@sources.register("mixed")
@dataclass(frozen=True)
class MixedConfig(SourceConfig):
    """Emoji, photographs and grey product pictures: what one recipe should be able to compress without changes."""

    crops: int = 64
    split: str = "all"

    def open(self) -> Union:
        clothes = Fashion(self.split)
        some = Subset(clothes, range(0, len(clothes), EVERY), f"every {EVERY}th of {clothes.name}")
        parts = {"emoji": Fluent(split=self.split), "photo": Photos(self.crops, self.split), "product": some}
        return Union(parts, f"mixed ({self.split})")


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

"""Pictures that come with the package: nothing has to be downloaded to try everything.

    embedded:fluent            2,781 Fluent emoji, 64 x 64, captions, 8 categories
    embedded:fluent-people     the People & Body and Smileys & Emotion part of it
    embedded:fashion           10,000 of Fashion-MNIST, 28 x 28, 10 classes
    embedded:photos            12 photographs

A name may end in `/train` or `/val` (fluent only: split by concept, so that skin-tone twins stay together).
Licences: see NOTICE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calotype.data.images import WHITE, open_image
from calotype.data.source import Record, Source
from calotype.errors import UnknownName, UserError

PEOPLE = ("People & Body", "Smileys & Emotion")
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
NAMES = ("fluent", "fluent-people", "fashion", "photos")


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
        if split not in ("train", "val", "all"):
            raise UnknownName("split", split, ("train", "val", "all"))
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
        h = hashlib.sha256(self._rows.astype("<i8").tobytes() + repr(self._background).encode())
        return "fluent-" + h.hexdigest()[:16]


class Fashion(Source):
    """Zalando's Fashion-MNIST; the caption is the class name."""

    name, classes = "fashion", FASHION

    def __init__(self) -> None:
        data = _npz("fashion10k.npz")
        images = next(v for v in data.values() if v.ndim >= 3 or v.shape[-1] == 784)
        self._images = images.reshape(-1, 28, 28)
        self._labels = [int(v) for v in next(v for v in data.values() if v.ndim == 1)]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        image = Image.fromarray(self._images[index]).convert("RGB")
        return Record(image, self.captions()[index], self._labels[index], self.key(index))

    def captions(self) -> Sequence[str]:
        return [FASHION[label].lower() for label in self._labels]

    def labels(self) -> Sequence[int]:
        return self._labels

    def key(self, index: int) -> str:
        return f"fashion/{index:05d}"

    def fingerprint(self) -> str:
        return "fashion-10k"


class Photos(Source):
    """Twelve photographs from scikit-image's data folder; the caption is the file's name."""

    name = "photos"
    classes: tuple[str, ...] = ()

    def __init__(self) -> None:
        folder = files("calotype.data") / "embedded" / "photos12"
        self._files = sorted((f for f in folder.iterdir() if f.name.endswith(".jpg")), key=lambda f: f.name)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        return Record(open_image(self._files[index].read_bytes()), self.captions()[index], -1, self.key(index))

    def captions(self) -> Sequence[str]:
        return [f.name.removesuffix(".jpg").replace("_", " ") for f in self._files]

    def labels(self) -> Sequence[int]:
        return [-1] * len(self)

    def key(self, index: int) -> str:
        return f"photos/{self._files[index].name}"

    def fingerprint(self) -> str:
        return "photos-12"


def embedded(name: str) -> Source:
    """The source called `embedded:NAME`; raises `UnknownName`."""
    base, _, split = name.partition("/")
    match base:
        case "fluent":
            return Fluent((), split or "all")
        case "fluent-people":
            return Fluent(PEOPLE, split or "all")
        case "fashion" | "photos" if split:
            raise UserError(f"embedded:{base} has no split {split!r}; leave it out")
        case "fashion":
            return Fashion()
        case "photos":
            return Photos()
    raise UnknownName("embedded data set", base, NAMES)

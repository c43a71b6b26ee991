"""Scenes put together from the embedded sets: one to three emoji on a piece of a photograph.

What is where is known exactly, so one small set serves every wish: captions, classes, boxes, label maps, drawings. The
classes were chosen by eye so that a small model tells them apart within minutes; of a subcategory only those members
are in that look like the others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calotype.data.embedded import SPLITS, Fluent, Photos
from calotype.data.images import Pixels, square
from calotype.data.source import Record, Source, SourceConfig, sources
from calotype.errors import UnknownName, UserError
from calotype.layout import Box
from calotype.rng import fold

KINDS = {
    "animal": r"animal-mammal/(.* face|bear|cat|fox|hamster|koala|lion|panda|pig|polar bear|rabbit|raccoon|wolf)"
    r"|cat-face/.*|monkey-face/.*",
    "ball": r"geometric/.* circle|sport/(baseball|basketball|soccer ball|softball|volleyball)",
    "car": r"transport-ground/(ambulance|automobile|delivery truck|fire engine|pickup truck|police car"
    r"|sport utility vehicle|taxi)",
    "clock": r"time/.* (oclock|thirty)",
    "face": r"face-(affection|concerned|neutral-skeptical|sleepy|smiling|tongue)"
    r"/(?!dotted line|face in clouds|face screaming|melting|rolling).*",
    "flower": r"plant-flower/(blossom|cherry blossom|hibiscus|lotus|rose|rosette|sunflower|tulip)",
    "fruit": r"food-fruit/(green apple|lemon|mango|melon|peach|pear|pineapple|red apple|strawberry|tangerine|tomato)",
    "hand": r"hand-fingers-open/(hand with fingers splayed|raised back of hand|raised hand|vulcan salute)",
    "heart": r"heart/.* heart",
    "house": r"place-building/(derelict house|hospital|hotel|house|house with garden|houses|hut|love hotel|school"
    r"|wedding)",
}
"""Class -> which emoji, as "subcategory/concept"; a concept is a caption without the skin tone."""

MOST = 3
"""Emoji in a scene."""
EVERY = 6
"""Every sixth concept of a class is held back, besides those that the emoji's own split holds back: it has none of
some classes."""
SMALLEST, LARGEST = 18 / 64, 34 / 64
"""The longer side of an emoji, relative to the scene."""
HIDDEN = 0.25
"""The share of an emoji that those in front of it may hide."""
TRIES = 32
"""How often a place is looked for; an emoji that finds none is left out."""
OPAQUE = 128
"""The alpha from which a pixel belongs to an emoji."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Sprite:
    """An emoji, cut to its opaque pixels.

    Args:
        kind: index into `KINDS`.
        concept: its caption without the skin tone.
        image: RGBA.
    """

    kind: int
    concept: str
    image: Image.Image

    def scaled(self, longer: int) -> Pixels:
        """(h, w, 4) with a longer side of so many pixels."""
        scale = longer / max(self.image.size)
        width, height = (max(1, round(s * scale)) for s in self.image.size)
        return np.asarray(self.image.resize((width, height), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Placed:
    """An emoji in a scene: its pixels (h, w, 4), RGBA, and where their upper left corner is."""

    sprite: Sprite
    rgba: Pixels
    left: int
    top: int

    @property
    def where(self) -> tuple[slice, slice]:
        """The rows and columns of the scene that it covers."""
        height, width = self.rgba.shape[:2]
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def mask(self) -> Mask:
        """(h, w), the emoji's own pixels, whether something hides them or not."""
        opaque: Mask = self.rgba[..., 3] >= OPAQUE
        return opaque

    def box(self, side: int) -> Box:
        """Around the mask, tight, in a scene of `side` pixels."""
        mask = self.mask
        (top, bottom), (left, right) = (np.flatnonzero(mask.any(axis))[[0, -1]].tolist() for axis in (1, 0))
        x0, x1, y0, y1 = self.left + left, self.left + right + 1, self.top + top, self.top + bottom + 1
        return Box(self.sprite.kind, x0 / side, y0 / side, x1 / side, y1 / side)


@dataclass(frozen=True)
class Scene:
    """What is in a picture, before it is painted.

    Args:
        placed: the emoji, from behind to the front.
        owner: (side, side), which of them is seen at a pixel; -1 = none.
    """

    placed: tuple[Placed, ...]
    owner: NDArray[np.int8]

    def covered(self, new: Placed) -> Scene | None:
        """With one more emoji in front, unless it would hide too much of another."""
        owner = self.owner.copy()
        owner[new.where][new.mask] = len(self.placed)
        seen = (np.count_nonzero(owner == k) / np.count_nonzero(p.mask) for k, p in enumerate(self.placed))
        return None if any(share < 1 - HIDDEN for share in seen) else Scene((*self.placed, new), owner)

    @property
    def kind(self) -> int:
        """The class of what is seen most of."""
        seen = [np.count_nonzero(self.owner == k) for k in range(len(self.placed))]
        return self.placed[int(np.argmax(seen))].sprite.kind

    @property
    def caption(self) -> str:
        """What there is, from left to right: "a heart, an animal and a clock"."""
        across = sorted(self.placed, key=lambda p: p.left + p.rgba.shape[1] / 2)
        names = [tuple(KINDS)[p.sprite.kind] for p in across]
        *first, last = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
        return f"{', '.join(first)} and {last}" if first else last


class Scenes(Source):
    """Emoji on pieces of photographs, each scene a function of its split and number alone.

    The emoji of "val" are of concepts that "train" does not have, and its backgrounds are from the right quarter of
    each photograph, as in `Photos`.

    Args:
        n: scenes of "train"; "val" has an eighth as many.
        side: pixels of a scene.
        split: "train", "val" or "all", which is one after the other.

    Raises:
        UserError: fewer than 8 scenes, or scenes too small for an emoji to be one.
    """

    classes = objects = tuple(KINDS)
    areas = ("background", *KINDS)
    paired = True

    def __init__(self, n: int = 4096, side: int = 64, split: str = "all") -> None:
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        if n < 8:
            raise UserError(f"{n} scenes leave none to hold back; take 8 or more")
        if not 16 <= side <= 1024:
            raise UserError(f"a scene's side must be 16 to 1024 pixels, got {side}")
        self._n, self._side, self._split = n, side, split
        sizes = {"train": n, "val": n // 8}
        self._rows = [(part, k) for part, size in sizes.items() if split in (part, "all") for k in range(size)]
        self._fluent, self._photos = Fluent(), {part: Photos(split=part) for part in sizes}
        self.name = "scenes" if split == "all" else f"scenes ({split})"

    def __len__(self) -> int:
        return len(self._rows)

    # A few hundred small pictures, decoded once and then read by any number of threads; two threads that come first at
    # the same time both decode them, to the same end.
    @cached_property
    def _sprites(self) -> dict[str, list[list[Sprite]]]:
        return dict(zip(("train", "val"), _sprites(self._fluent), strict=True))

    @cached_property
    def _whole(self) -> list[Image.Image]:
        photos = self._photos["train"]
        return [photos[i].image for i in range(len(photos))]

    def __getitem__(self, index: int) -> Record:
        scene = self.scene(index)
        painted = np.array(self.background(index), dtype=np.float32)
        for placed in scene.placed:
            alpha = placed.rgba[..., 3:] / np.float32(255)
            painted[placed.where] += alpha * (placed.rgba[..., :3] - painted[placed.where])
        pixels = painted.round().astype(np.uint8)
        kinds = np.array([0, *(placed.sprite.kind + 1 for placed in scene.placed)], dtype=np.uint8)
        return Record(
            Image.fromarray(pixels),
            scene.caption,
            scene.kind,
            self.key(index),
            tuple(placed.box(self._side) for placed in scene.placed),
            Image.fromarray(kinds[scene.owner + 1]),
            Image.fromarray(drawing(pixels, scene.owner)),
        )

    def scene(self, index: int) -> Scene:
        """What is where in a picture."""
        part, number = self._rows[index]

        def unit(*purpose: Any) -> float:
            return (fold(0, "scene", part, number, *purpose) >> 10) / 2**53

        scene = Scene((), np.full((self._side, self._side), -1, dtype=np.int8))
        for k in range(1 + int(MOST * unit("count"))):
            members = self._sprites[part][int(len(KINDS) * unit("kind", k))]
            sprite = members[int(len(members) * unit("member", k))]
            for attempt in range(TRIES):
                size, x, y = (unit(purpose, k, attempt) for purpose in ("size", "x", "y"))
                rgba = sprite.scaled(round(self._side * (SMALLEST + (LARGEST - SMALLEST) * size)))
                left, top = int((self._side - rgba.shape[1] + 1) * x), int((self._side - rgba.shape[0] + 1) * y)
                covered = scene.covered(Placed(sprite, rgba, left, top))
                if covered is not None:
                    scene = covered
                    break
        return scene

    def background(self, index: int) -> Image.Image:
        """The piece of a photograph that a scene is laid on."""
        part, number = self._rows[index]
        photo = self._whole[fold(0, "photo", part, number) % len(self._whole)]
        return square(self._photos[part].cut(photo, fold(0, "background", part, number)), self._side)

    @cached_property
    def _told(self) -> tuple[list[str], list[int]]:
        scenes = [self.scene(i) for i in range(len(self))]
        return [scene.caption for scene in scenes], [scene.kind for scene in scenes]

    def captions(self) -> Sequence[str]:
        return self._told[0]

    def labels(self) -> Sequence[int]:
        return self._told[1]

    def key(self, index: int) -> str:
        part, number = self._rows[index]
        return f"scenes/{part}-{number:05d}"

    def fingerprint(self) -> str:
        parts = (self._fluent.fingerprint(), self._photos["train"].fingerprint(), KINDS)
        told = repr((*parts, self._n, self._side, self._split))
        return "scenes-" + hashlib.sha256(told.encode()).hexdigest()[:16]


def _sprites(fluent: Fluent) -> tuple[list[list[Sprite]], list[list[Sprite]]]:
    """By class, those to train on and those held back."""
    concepts = [caption.partition(",")[0] for caption in fluent.captions()]
    train, val = [], []
    for kind, pattern in enumerate(KINDS.values()):
        names = zip(fluent.subcategories, concepts, strict=True)
        rows = [
            i for i, (subcategory, concept) in enumerate(names) if re.fullmatch(pattern, f"{subcategory}/{concept}")
        ]
        own = {concepts[i] for i in rows if fluent.held_out[i]}
        held = own | set(sorted({concepts[i] for i in rows})[::EVERY])
        sprites = [Sprite(kind, concepts[i], _cut_out(fluent.sprite(i))) for i in rows]
        train.append([sprite for sprite in sprites if sprite.concept not in held])
        val.append([sprite for sprite in sprites if sprite.concept in held])
    return train, val


def _cut_out(image: Image.Image) -> Image.Image:
    return image.crop(image.getchannel("A").point([255 * (alpha >= OPAQUE) for alpha in range(256)]).getbbox())


def drawing(pixels: Pixels, owner: NDArray[np.int8]) -> Pixels:
    """A picture as lines on white paper: outlines of its objects in black, steps of brightness in grey.

    Args:
        pixels: (H, W, 3).
        owner: (H, W), which object a pixel belongs to.

    Returns:
        (H, W, 3).
    """
    luminance = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    down, across = np.gradient(luminance)
    ink = np.clip((np.hypot(down, across) - 8) / 40, 0, 0.75)
    ink[1:][owner[1:] != owner[:-1]] = 1
    ink[:, 1:][owner[:, 1:] != owner[:, :-1]] = 1
    paper: Pixels = np.repeat((255 * (1 - ink)).round().astype(np.uint8)[..., None], 3, axis=-1)
    return paper


@sources.register("scenes")
@dataclass(frozen=True)
class ScenesConfig(SourceConfig):
    """Emoji on pieces of photographs, with boxes, label maps and drawings; the class is that of the largest."""

    n: int = 4096
    side: int = 64
    split: str = "all"

    def open(self) -> Scenes:
        return Scenes(self.n, self.side, self.split)

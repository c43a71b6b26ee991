"""What is where, as the words of a small language that a transformer reads.

Every object is three tokens, every corner of a box one:

    class    top left    bottom right        x 30, absent ones filled with "none"
    top left    bottom right                 of the crop that the picture is, last

A corner (x, y) is one of n^2 places on a grid of n x n: round(y (n - 1)) n + round(x (n - 1)), n = floor(sqrt(8192)) =
90. Rombach et al. 2022, https://arxiv.org/abs/2112.10752, table 17 and section 4.3.1, in the order of the released code
(the paper prints the corners first). Corners here are relative to the crop, so that a wish says where in the picture
that one will see; the data code of taming-transformers, which the released models learned from, leaves them relative to
the original where crop tokens are used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from calotype.condition import Condition, Routes
from calotype.conditioning.conditioner import Conditioner, Corpus, Latents, check_drop, conditioners, device_of
from calotype.errors import UserError
from calotype.layout import Box, Layout, check_labels
from calotype.nn.text_transformer import TextTransformer, TextTransformerConfig

OBJECTS = 30
"""Objects of a picture, at most."""


BOXES = "put COCO's annotations.json into the folder, or name 'objects' in metadata.jsonl"
"""How data comes to have boxes."""


def largest(boxes: tuple[Box, ...], n: int) -> tuple[Box, ...]:
    """The n largest, in their order; all if there are no more."""
    if len(boxes) <= n:
        return boxes
    kept = sorted(range(len(boxes)), key=lambda k: -boxes[k].area)[:n]
    return tuple(boxes[k] for k in sorted(kept))


def check_number(layout: Layout, n: int) -> None:
    """Raise `UserError` for a person's layout of more boxes than a model takes."""
    if len(layout.boxes) > n:
        raise UserError(f"a layout has {len(layout.boxes)} boxes, this model takes {n} at most; leave out the smallest")


class LayoutTokens:
    """A layout as 3 `objects` + 2 ids, and back.

    Args:
        classes: names; class k is token k. Ids of classes and of places share one vocabulary; their positions tell them
            apart.
        vocabulary: number of ids; the last means "none".
        objects: how many a picture can have.

    Raises:
        ValueError: a vocabulary without room for the classes and "none".
    """

    def __init__(self, classes: Sequence[str], vocabulary: int = 8192, objects: int = OBJECTS) -> None:
        if not len(classes) < vocabulary:
            raise ValueError(f"a vocabulary of {vocabulary} has no room for {len(classes)} classes and 'none'")
        self.classes, self.vocabulary, self.objects = tuple(classes), vocabulary, objects
        # the last id is "none" and must not name a place as well
        self.places = math.isqrt(vocabulary - 1)

    @property
    def length(self) -> int:
        """Ids of a layout."""
        return 3 * self.objects + 2

    @property
    def none(self) -> int:
        """The id of an absent object."""
        return self.vocabulary - 1

    def place(self, x: float, y: float) -> int:
        """The id of a corner, x and y in [0, 1]."""
        n = self.places
        return round(y * (n - 1)) * n + round(x * (n - 1))

    def corner(self, place: int) -> tuple[float, float]:
        """(x, y) of an id."""
        n = self.places
        return place % n / (n - 1), place // n / (n - 1)

    def encode(self, layout: Layout) -> list[int]:
        """The ids of a layout; of more objects than fit, the largest.

        Raises:
            UserError: a class out of range.
        """
        check_labels(layout.boxes, self.classes)
        boxes = largest(layout.boxes, self.objects)
        ids = [i for box in boxes for i in (box.label, self.place(box.x0, box.y0), self.place(box.x1, box.y1))]
        ids += [self.none] * (3 * self.objects - len(ids))
        window = layout.window
        return [*ids, self.place(window.x0, window.y0), self.place(window.x1, window.y1)]

    def decode(self, ids: Sequence[int]) -> list[tuple[int, tuple[float, float], tuple[float, float]]]:
        """(class, top left, bottom right) of every object, to the grid's precision."""
        triples = zip(*(ids[k : 3 * self.objects : 3] for k in range(3)), strict=True)
        return [(c, self.corner(a), self.corner(b)) for c, a, b in triples if c != self.none]


class LayoutBoxes(Conditioner):
    """ "layout", a list of B `Layout`s, -> tokens (B, 3 objects + 2, width).

    Null is a layout without objects that shows the whole picture.

    Args:
        config: sizes.
        classes: of the objects.
    """

    reads = ("layout",)

    def __init__(self, config: LayoutConfig, classes: Sequence[str]) -> None:
        super().__init__(config.drop)
        self.tokens = LayoutTokens(classes, config.vocabulary, config.objects)
        self.transformer = TextTransformer(config.transformer(self.tokens.length))

    def routes(self) -> Routes:
        """One token for every id."""
        return Routes(tokens=self.transformer.config.width)

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """Raises `UserError` for an unknown class."""
        ids = torch.tensor([self.tokens.encode(layout) for layout in batch["layout"]], device=device_of(self))
        return Condition(tokens=self.transformer(ids, self._all(ids)))

    def null(self, n: int) -> Condition:
        """The empty layout, encoded once."""
        empty: Condition = self({"layout": [Layout()]})
        return empty.expand(n)

    def check_asked(self, wishes: Mapping[str, Sequence[Any]]) -> None:
        """Raises `UserError` for a layout of which boxes would be left out."""
        for layout in wishes["layout"]:
            check_number(layout, self.tokens.objects)

    @property
    def names(self) -> Sequence[str]:
        """Of the objects."""
        return self.tokens.classes

    def assets(self) -> Mapping[str, str]:
        """The class names."""
        return {"classes": json.dumps(self.tokens.classes)}

    @staticmethod
    def _all(ids: Tensor) -> Tensor:
        # "none" is a word like others: the paper's encoder has no mask
        return torch.ones_like(ids, dtype=torch.bool)


@conditioners.register("layout")
@dataclass(frozen=True)
class LayoutConfig:
    """Boxes with classes, as tokens of a transformer that is trained along: config of `LayoutBoxes`.

    The paper's is 512 wide, 16 layers deep, with 8 heads of 64.

    Args:
        width: of a token.
        depth, heads: of the transformer.
        objects: of a picture, at most.
        vocabulary: of classes, places and "none"; its root is the grid that corners are rounded to.
        drop: probability of dropping the layout alone.
    """

    width: int = 256
    depth: int = 4
    heads: int = 4
    objects: int = OBJECTS
    vocabulary: int = 8192
    drop: float = 0.0
    guided: ClassVar[bool] = True
    essential: ClassVar[bool] = True
    remedy: ClassVar[str] = BOXES

    def __post_init__(self) -> None:
        check_drop(self.drop)
        if not 1 <= self.objects <= 1000:
            raise ValueError(f"objects must lie in 1 ... 1000, got {self.objects}")
        if not 17 <= self.vocabulary <= 2**20:
            raise ValueError(f"vocabulary must lie in 17 ... {2**20:,}, got {self.vocabulary}")
        self.transformer(3 * self.objects + 2)

    def transformer(self, length: int) -> TextTransformerConfig:
        """The transformer's sizes."""
        return TextTransformerConfig(self.vocabulary, length, self.width, self.depth, self.heads)

    def lacks(self, corpus: Corpus) -> str:
        """Boxes, where there are none."""
        return "" if corpus.objects else "boxes"

    def fit(self, corpus: Corpus, latents: Latents) -> LayoutBoxes:
        """A conditioner for the objects of the data."""
        return LayoutBoxes(self, corpus.objects)

    def load(self, assets: Mapping[str, str], latents: Latents) -> LayoutBoxes:
        """A conditioner for the saved class names."""
        return LayoutBoxes(self, [str(c) for c in json.loads(assets["classes"])])

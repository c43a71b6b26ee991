"""What is where, one token for every object: where a box lies is told by sines and cosines of its corners.

    token = MLP [class ; sin(2^k pi c), cos(2^k pi c) for the corners c = x0, y0, x1, y1 and k = 0 ... frequencies - 1]

Li et al. 2023 (GLIGEN), https://arxiv.org/abs/2301.07093, section 3.1, with learned classes in place of phrases. The
paper's own words (`layout`) give every place of a grid a vector of its own and leave it to a transformer to find out
which of them are near each other and which three belong together; here both are given. To learn from them where things
are, a denoiser still needs long (see `box_map`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from calotype.condition import Condition, Routes
from calotype.conditioning.conditioner import Conditioner, Corpus, Latents, check_drop, conditioners, device_of
from calotype.conditioning.layout import BOXES, OBJECTS, check_number, largest
from calotype.layout import Box, Layout, Window, check_labels
from calotype.nn.sizes import WIDEST, check_sizes


class Boxes(Conditioner):
    """ "layout", a list of B `Layout`s, -> tokens (B, objects + 1, width): objects, absent ones alike, and the crop.

    Null is a layout without objects that shows the whole picture.

    Args:
        config: sizes.
        classes: of the objects.
    """

    reads = ("layout",)

    def __init__(self, config: BoxesConfig, classes: Sequence[str]) -> None:
        super().__init__(config.drop)
        self.config, self.classes = config, tuple(classes)
        width, places = config.width, 4 * 2 * config.frequencies
        self.embedding = nn.Embedding(len(self.classes) + 1, width)  # the last is the crop's
        self.absent = nn.Parameter(torch.randn(width))
        self.mlp = nn.Sequential(nn.Linear(width + places, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def routes(self) -> Routes:
        """One token for every object, and one for the crop."""
        return Routes(tokens=self.config.width)

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """Of more objects than fit, the largest are heard. Raises `UserError` for an unknown class."""
        layouts: list[Layout] = list(batch["layout"])
        for layout in layouts:
            check_labels(layout.boxes, self.classes)
        kept = [largest(layout.boxes, self.config.objects) for layout in layouts]
        flat = [box for boxes in kept for box in boxes]
        ids = [box.label for box in flat] + [len(self.classes)] * len(layouts)
        told = self._tokens(ids, [*flat, *(layout.window for layout in layouts)])
        tokens = self.absent.to(told).expand(len(layouts), self.config.objects + 1, -1).clone()
        row = torch.tensor([i for i, boxes in enumerate(kept) for _ in boxes], dtype=torch.long)
        place = torch.tensor([k for boxes in kept for k in range(len(boxes))], dtype=torch.long)
        tokens[row, place], tokens[:, -1] = told[: len(flat)], told[len(flat) :]
        return Condition(tokens=tokens)

    def _tokens(self, ids: Sequence[int], places: Sequence[Box | Window]) -> Tensor:
        device = device_of(self)
        corners = torch.tensor([[p.x0, p.y0, p.x1, p.y1] for p in places], device=device)
        waves = math.pi * 2.0 ** torch.arange(self.config.frequencies, device=device) * corners[..., None]
        told = torch.cat([waves.sin(), waves.cos()], -1).flatten(1)
        tokens: Tensor = self.mlp(torch.cat([self.embedding(torch.tensor(ids, device=device)), told], 1))
        return tokens

    def null(self, n: int) -> Condition:
        """The empty layout, encoded once."""
        empty: Condition = self({"layout": [Layout()]})
        return empty.expand(n)

    def check_asked(self, wishes: Mapping[str, Sequence[Any]]) -> None:
        """Raises `UserError` for a layout of which boxes would be left out."""
        for layout in wishes["layout"]:
            check_number(layout, self.config.objects)

    @property
    def names(self) -> Sequence[str]:
        """Of the objects."""
        return self.classes

    def assets(self) -> Mapping[str, str]:
        """The class names."""
        return {"classes": json.dumps(self.classes)}


@conditioners.register("boxes")
@dataclass(frozen=True)
class BoxesConfig:
    """Boxes with classes, as one token each: config of `Boxes`.

    Args:
        width: of a token.
        objects: of a picture, at most.
        frequencies: of the sines and cosines of a corner's coordinates.
        drop: probability of dropping the layout alone.
    """

    width: int = 256
    objects: int = OBJECTS
    frequencies: int = 8
    drop: float = 0.0
    guided: ClassVar[bool] = True
    essential: ClassVar[bool] = True
    remedy: ClassVar[str] = BOXES

    def __post_init__(self) -> None:
        check_sizes(width=(self.width, WIDEST), objects=(self.objects, 1000), frequencies=(self.frequencies, 16))
        check_drop(self.drop)

    def lacks(self, corpus: Corpus) -> str:
        """Boxes, where there are none."""
        return "" if corpus.objects else "boxes"

    def fit(self, corpus: Corpus, latents: Latents) -> Boxes:
        """A conditioner for the objects of the data."""
        return Boxes(self, corpus.objects)

    def load(self, assets: Mapping[str, str], latents: Latents) -> Boxes:
        """A conditioner for the saved class names."""
        return Boxes(self, [str(c) for c in json.loads(assets["classes"])])

"""What is where, as channels of x_t: boxes painted at the resolution of latents.

    layout --Layout.painted--> map (B, H, W) --as a label map--> (B, C, h, w)

Tokens (`boxes`, `layout`) leave it to cross-attention to find out where a box is, which on scenes of 64 x 64 had not
happened after 1,600 and 2,400 steps of diffusion; painted, every position is told what is to be there, as by a map of
labels. Where boxes overlap only the smaller is seen, so tokens besides are no waste.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from calotype.conditioning.conditioner import Corpus, Latents, check_drop, conditioners
from calotype.conditioning.layout import BOXES
from calotype.conditioning.semantic_map import SemanticMap
from calotype.nn.sizes import WIDEST, check_sizes

ENTRY = "box_map"


@conditioners.register("box_map")
@dataclass(frozen=True)
class BoxMapConfig:
    """Painted boxes, as channels of x_t: config of a `SemanticMap` of objects.

    Args:
        channels: that the classes are told apart by.
        drop: probability of dropping the map alone.
        guided: whether guidance strengthens the map; otherwise there always is one.
    """

    channels: int = 8
    drop: float = 0.0
    guided: bool = True
    essential: ClassVar[bool] = True
    remedy: ClassVar[str] = BOXES

    def __post_init__(self) -> None:
        check_sizes(channels=(self.channels, WIDEST))
        check_drop(self.drop, self.guided)

    def lacks(self, corpus: Corpus) -> str:
        """Boxes, where there are none."""
        return "" if corpus.objects else "boxes"

    def fit(self, corpus: Corpus, latents: Latents) -> SemanticMap:
        """A conditioner for the objects of the data."""
        return SemanticMap(self, corpus.objects, latents, ENTRY)

    def load(self, assets: Mapping[str, str], latents: Latents) -> SemanticMap:
        """A conditioner for the saved objects."""
        return SemanticMap(self, [str(a) for a in json.loads(assets["areas"])], latents, ENTRY)

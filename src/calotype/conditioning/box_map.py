"""What is where, as channels of x_t: boxes painted at the resolution of latents.

    layout --Layout.painted--> map (B, H, W) --as a label map--> (B, C, h, w)

Tokens (`boxes`, `layout`) leave it to cross-attention to find out where a box is, which on scenes of 64 x 64 had not
happened after 1,600 and 2,400 steps of diffusion; painted, every position is told what is to be there, as by a map of
labels. Where boxes overlap only the smaller is seen, so tokens besides are no waste.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from calotype.conditioning.conditioner import Corpus, conditioners
from calotype.conditioning.layout import BOXES
from calotype.conditioning.semantic_map import AreasConfig


@conditioners.register("box_map")
@dataclass(frozen=True)
class BoxMapConfig(AreasConfig):
    """Painted boxes, as channels of x_t: config of a `SemanticMap` of objects; see `AreasConfig`."""

    channels: int = 8
    guided: bool = True
    entry: ClassVar[str] = "box_map"
    remedy: ClassVar[str] = BOXES

    def areas(self, corpus: Corpus) -> Sequence[str]:
        """Those of boxes."""
        return corpus.objects

    def lacks(self, corpus: Corpus) -> str:
        """Boxes, where there are none."""
        return "" if corpus.objects else "boxes"

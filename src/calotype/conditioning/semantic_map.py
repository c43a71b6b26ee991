"""Label maps: which area every pixel belongs to, as channels of x_t.

    map (B, H, W)  -> a row of a table for every pixel (B, C, H, W)  -> the mean over factor x factor (B, C, h, w)

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 4.3.2 and the released code: one-hot maps, halved
bilinearly as often as the first stage halves pictures, then a 1 x 1 convolution without bias to 3 channels. Halving is
the mean of 2 x 2, and a convolution of one-hots picks rows of its weight, so these are the same numbers. The one-hots
of 48 pictures of 512 x 512 with 182 areas would take 9 GB; the rows take 150 MB.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.condition import Condition, Routes
from calotype.conditioning.conditioner import Corpus, Latents, check_drop, conditioners
from calotype.conditioning.pictures import OfPictures, check_sides
from calotype.errors import UserError
from calotype.layout import UNLABELLED
from calotype.nn.sizes import WIDEST, check_sizes


class SemanticMap(OfPictures):
    """ "label_map" (B, H, W) uint8 -> spatial (B, channels, H / factor, W / factor).

    Null is a map without any area: zeros.

    Args:
        config: sizes.
        areas: their names; area k is row k.
        latents: at whose resolution the map is needed.
        entry: of the batch that is read.
    """

    def __init__(self, config: AreasConfig, areas: Sequence[str], latents: Latents, entry: str = "label_map") -> None:
        super().__init__(config.drop, config.guided)
        self.reads = (entry,)
        self.areas, self.factor = tuple(areas), latents.factor
        self.embedding = nn.Embedding(len(self.areas), config.channels)  # of unit size, as latents are

    @property
    def names(self) -> Sequence[str]:
        """Of the areas."""
        return self.areas

    def routes(self) -> Routes:
        """The table's width."""
        return Routes(spatial=self.embedding.embedding_dim)

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """Raises `UserError` for values that are no area, and for sides that do not fit the latents."""
        [entry] = self.reads
        ids = self.stacked(batch, entry).long()
        if ids.dim() != 3:
            raise UserError(f"{entry!r} must have one number for every pixel, (H, W), got {tuple(ids.shape[1:])}")
        check_sides(repr(entry), ids.shape[1], ids.shape[2], self.factor)
        labelled = ids != UNLABELLED
        wrong = labelled & ((ids < 0) | (ids >= len(self.areas)))
        if wrong.any():
            raise UserError(
                f"{entry!r} has the value {int(ids[wrong][0])}; this model knows 0 ... {len(self.areas) - 1}, and "
                f"{UNLABELLED} for pixels without an area"
            )
        rows: Tensor = self.embedding(ids.where(labelled, 0)) * labelled[..., None]
        return Condition(spatial=F.avg_pool2d(rows.movedim(-1, 1), self.factor))

    def null(self, n: int) -> Condition:
        """Zeros."""
        return Condition(spatial=torch.zeros(n, self.embedding.embedding_dim, 1, 1, device=self.here.device))

    def assets(self) -> Mapping[str, str]:
        """The names of the areas."""
        return {"areas": json.dumps(self.areas)}


@dataclass(frozen=True)
class AreasConfig(ABC):
    """What the configs of `SemanticMap` have in common.

    Args:
        channels: that the areas are told apart by.
        drop: probability of dropping the map alone.
        guided: whether guidance strengthens the map; otherwise there always is one.
    """

    channels: int = 3
    drop: float = 0.0
    guided: bool = False
    essential: ClassVar[bool] = True
    entry: ClassVar[str]

    def __post_init__(self) -> None:
        check_sizes(channels=(self.channels, WIDEST))
        check_drop(self.drop, self.guided)

    @abstractmethod
    def areas(self, corpus: Corpus) -> Sequence[str]:
        """What the numbers of maps stand for in this data."""

    def fit(self, corpus: Corpus, latents: Latents) -> SemanticMap:
        """A conditioner for the areas of the data."""
        return SemanticMap(self, self.areas(corpus), latents, self.entry)

    def load(self, assets: Mapping[str, str], latents: Latents) -> SemanticMap:
        """A conditioner for the saved areas."""
        return SemanticMap(self, [str(a) for a in json.loads(assets["areas"])], latents, self.entry)


@conditioners.register("semantic_map")
@dataclass(frozen=True)
class SemanticMapConfig(AreasConfig):
    """Label maps, as channels of x_t: config of `SemanticMap`; see `AreasConfig`."""

    entry: ClassVar[str] = "label_map"
    remedy: ClassVar[str] = (
        "put a map beside every picture (cat.labels.png for cat.jpg, one byte per pixel, 255 = no area), or name them "
        "as 'label_map' in metadata.jsonl"
    )

    def areas(self, corpus: Corpus) -> Sequence[str]:
        """Those of label maps."""
        return corpus.areas

    def lacks(self, corpus: Corpus) -> str:
        """Label maps, where there are none."""
        return "" if corpus.areas else "label maps"

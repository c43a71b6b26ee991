"""What a picture shows, not where: an embedding of it as tokens and as a vector.

    reference --EfficientNet-Lite0, pooled--> (B, 112) --normalised--> e        tokens = W_t e,  vector = W_v e

As Ramesh et al. 2022 (unCLIP), https://arxiv.org/abs/2204.06125, section 2.1, do with CLIP's embeddings: one projection
joins the time embedding, another makes four tokens. In training a picture's own embedding is its wish, so that pictures
alone are enough to train with; a sample then varies a reference.

The network was trained to tell 1000 classes of things apart and travels with the package. Its features are
as large as 10, hence the normalisation over channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.condition import Condition, Routes
from calotype.conditioning.conditioner import Corpus, Latents, check_drop, conditioners
from calotype.conditioning.pictures import OfPictures
from calotype.nn.features import Lite0Features
from calotype.nn.sizes import WIDEST, check_sizes

FEATURES = 112
"""Channels of the network's pooled features."""


class ImageEmbedding(OfPictures):
    """ "reference" (B, 3, S, S) in [-1, 1], any S, -> tokens (B, tokens, width), vector (B, vector), as in the config.

    Null is a learned embedding. The feature network is neither trained nor saved.

    Args:
        config: sizes.
    """

    reads = ("reference",)

    def __init__(self, config: ImageEmbeddingConfig) -> None:
        super().__init__(config.drop, config.guided)
        self.config = config
        self.features = Lite0Features()
        self.nothing = nn.Parameter(torch.randn(FEATURES), requires_grad=config.guided)  # else it is never met
        self.tokens = nn.Linear(FEATURES, config.tokens * config.width) if config.tokens else None
        self.vector = nn.Linear(FEATURES, config.vector) if config.vector else None

    def routes(self) -> Routes:
        """Those that have a projection."""
        return Routes(self.config.width if self.config.tokens else None, vector=self.config.vector or None)

    def embed(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) -> embeddings (B, 112) of zero mean and unit variance."""
        with torch.no_grad():
            return F.layer_norm(self.features.pooled(images), (FEATURES,))

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """Raises `UserError` for what is no RGB picture."""
        return self._projected(self.embed(self.pictures(batch, "reference")))

    def _projected(self, e: Tensor) -> Condition:
        return Condition(
            tokens=None if self.tokens is None else self.tokens(e).unflatten(1, (-1, self.config.width)),
            vector=None if self.vector is None else self.vector(e),
        )

    def null(self, n: int) -> Condition:
        """The learned embedding."""
        return self._projected(self.nothing.expand(n, -1))


@conditioners.register("image_embedding")
@dataclass(frozen=True)
class ImageEmbeddingConfig:
    """The content of a reference picture, as tokens and as a vector: config of `ImageEmbedding`.

    Args:
        tokens: how many; 0 = none.
        width: token width, the same for every conditioner of a model.
        vector: width of what joins the time embedding; 0 = nothing does.
        drop: probability of dropping the reference alone.
        guided: whether guidance strengthens the reference; otherwise there always is one.
    """

    tokens: int = 4
    width: int = 256
    vector: int = 0
    drop: float = 0.0
    guided: bool = True
    essential: ClassVar[bool] = True
    remedy: ClassVar[str] = "open a source of pictures"

    def __post_init__(self) -> None:
        check_sizes(
            width=(self.width, WIDEST), tokens=(self.tokens or None, 1024), vector=(self.vector or None, WIDEST)
        )
        if not self.tokens and not self.vector:
            raise ValueError("an image embedding needs tokens, a vector or both; both are 0")
        check_drop(self.drop, self.guided)

    def lacks(self, corpus: Corpus) -> str:
        """Nothing: every picture is its own reference."""
        return "" if "reference" in corpus.entries else "reference pictures"

    def fit(self, corpus: Corpus, latents: Latents) -> ImageEmbedding:
        """A fresh conditioner."""
        return ImageEmbedding(self)

    def load(self, assets: Mapping[str, str], latents: Latents) -> ImageEmbedding:
        """A conditioner to be filled with the saved weights."""
        return ImageEmbedding(self)

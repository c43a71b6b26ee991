"""Another picture of the same size, as channels of x_t: drawings, edges, depth, the picture before an edit.

    spatial = E(conditioning image)         E: the first stage

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 4.3.2; Brooks et al. 2022 (InstructPix2Pix),
https://arxiv.org/abs/2211.09800, whose null is zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from calotype.condition import Condition, Routes
from calotype.conditioning.conditioner import Corpus, Latents, check_drop, conditioners
from calotype.conditioning.pictures import OfPictures, check_sides


class ConditioningImage(OfPictures):
    """ "conditioning_image" (B, 3, H, W) in [-1, 1] -> spatial (B, channels, H / factor, W / factor).

    Null is zeros.

    Args:
        config: whether it is guided, and dropped.
        latents: the first stage. It is not trained here and does not become a part of this module.
    """

    reads = ("conditioning_image",)

    def __init__(self, config: ConditioningImageConfig, latents: Latents) -> None:
        super().__init__(config.drop, config.guided)
        self.factor, self.channels = latents.factor, latents.channels
        self._encode = latents.encode  # the method alone: a module would be saved and trained along

    def routes(self) -> Routes:
        """Those of the latent."""
        return Routes(spatial=self.channels)

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """Raises `UserError` for what is no RGB picture, or does not fit the latents."""
        image = self.pictures(batch, "conditioning_image")
        check_sides("'conditioning_image'", image.shape[2], image.shape[3], self.factor)
        with torch.no_grad():
            return Condition(spatial=self._encode(image))

    def null(self, n: int) -> Condition:
        """Zeros."""
        return Condition(spatial=torch.zeros(n, self.channels, 1, 1, device=self.here.device))


@conditioners.register("conditioning_image")
@dataclass(frozen=True)
class ConditioningImageConfig:
    """Another picture of the same size, as channels of x_t: config of `ConditioningImage`.

    Args:
        drop: probability of dropping it alone.
        guided: whether guidance strengthens it; otherwise there always is one.
    """

    drop: float = 0.0
    guided: bool = False
    essential: ClassVar[bool] = True
    remedy: ClassVar[str] = (
        "put one for every picture into conditioning_images/ beside images/, or name them as 'conditioning_image' in "
        "metadata.jsonl"
    )

    def __post_init__(self) -> None:
        check_drop(self.drop, self.guided)

    def lacks(self, corpus: Corpus) -> str:
        """Conditioning images, where there are none."""
        return "" if "conditioning_image" in corpus.entries else "conditioning images"

    def fit(self, corpus: Corpus, latents: Latents) -> ConditioningImage:
        """A conditioner for the pairs of the data."""
        return ConditioningImage(self, latents)

    def load(self, assets: Mapping[str, str], latents: Latents) -> ConditioningImage:
        """The same again."""
        return ConditioningImage(self, latents)

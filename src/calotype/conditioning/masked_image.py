"""A picture with a hole, as channels of x_t: inpainting by a model that was trained for it.

    masked = hole ? fill : image
    spatial = [E(masked), hole at the latent's resolution]      E: the first stage

To the encoder `fill` is a colour like others, so the map says what is missing. There are two published conventions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.condition import Condition, Routes
from calotype.conditioning.conditioner import Corpus, Latents, check_drop, conditioners
from calotype.conditioning.pictures import OfPictures, check_sides
from calotype.errors import UserError


class MaskedImage(OfPictures):
    """ "image" (B, 3, H, W) in [-1, 1], "hole" (B, 1, H, W) bool -> spatial (B, channels + 1, H / factor, W / factor).

    THE HOLE IS TRUE WHERE PIXELS ARE MISSING; what the image has there is not looked at. Null is a hole everywhere, and
    zeros for its latent.

    Args:
        config: the convention.
        latents: the first stage. It is not trained here and does not become a part of this module.
    """

    reads = ("image", "hole")

    def __init__(self, config: MaskedImageConfig, latents: Latents) -> None:
        super().__init__(config.drop, config.guided)
        self.config, self.factor, self.channels = config, latents.factor, latents.channels
        self._encode = latents.encode  # the method alone: a module would be saved and trained along

    def routes(self) -> Routes:
        """Those of the latent, and the map."""
        return Routes(spatial=self.channels + 1)

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """Raises `UserError` for what is no RGB picture, no hole of its size, or does not fit the latents."""
        image, hole = self.pictures(batch, "image"), self.stacked(batch, "hole")
        if hole.dtype != torch.bool or hole.shape != (len(image), 1, *image.shape[2:]):
            raise UserError(
                f"'hole' must be bool {(1, *image.shape[2:])}, as large as the picture, True where pixels are missing, "
                f"got {hole.dtype} {tuple(hole.shape[1:])} for {len(hole)} of {len(image)} pictures"
            )
        check_sides("'image'", image.shape[2], image.shape[3], self.factor)
        with torch.no_grad():
            latent = self._encode(image.masked_fill(hole, self.config.fill))
        return self._joined(latent, self._small(hole))

    def _small(self, hole: Tensor) -> Tensor:
        """The map at the latent's resolution, (B, 1, h, w) bool."""
        if self.config.nearest:
            return hole[..., :: self.factor, :: self.factor]
        return F.max_pool2d(hole.float(), self.factor) > 0

    def _joined(self, latent: Tensor, hole: Tensor) -> Condition:
        known, missing = self.config.values
        told = latent.new_full(hole.shape, known).masked_fill(hole, missing)
        return Condition(spatial=torch.cat([told, latent] if self.config.map_first else [latent, told], 1))

    def null(self, n: int) -> Condition:
        """A hole everywhere."""
        device = self.here.device
        latent = torch.zeros(n, self.channels, 1, 1, device=device)
        return self._joined(latent, torch.ones(n, 1, 1, 1, dtype=torch.bool, device=device))


@conditioners.register("masked_image")
@dataclass(frozen=True)
class MaskedImageConfig:
    """A picture with a hole, as channels of x_t: config of `MaskedImage`.

    Args:
        fill: what the hole is painted with before the first stage sees it, in [-1, 1].
        values: what the map says where pixels are (known, missing).
        map_first: whether the map comes before the latent.
        nearest: the map is every factor-th pixel; otherwise a position is missing if any of its pixels is, so that no
            thin line is lost.
        drop: probability of dropping the picture alone.
        guided: whether guidance strengthens it; otherwise there always is one.
    """

    fill: float = -1.0
    values: tuple[float, float] = (-1.0, 1.0)
    map_first: bool = False
    nearest: bool = False
    drop: float = 0.0
    guided: bool = False
    essential: ClassVar[bool] = True
    remedy: ClassVar[str] = "have some made: data.mask=mixed"

    def __post_init__(self) -> None:
        if not -1.0 <= self.fill <= 1.0:
            raise ValueError(f"fill must lie in [-1, 1], got {self.fill}")
        if self.values[0] == self.values[1]:
            raise ValueError(f"values must tell known pixels from missing ones, got {self.values}")
        check_drop(self.drop, self.guided)

    def lacks(self, corpus: Corpus) -> str:
        """Holes, where there are none."""
        return "" if "hole" in corpus.entries else "holes"

    def fit(self, corpus: Corpus, latents: Latents) -> MaskedImage:
        """A conditioner for the holes of the data."""
        return MaskedImage(self, latents)

    def load(self, assets: Mapping[str, str], latents: Latents) -> MaskedImage:
        """The same again."""
        return MaskedImage(self, latents)


LDM_INPAINTING = MaskedImageConfig(fill=-1.0, values=(-1.0, 1.0), map_first=False, nearest=True)
"""Rombach et al. 2022, https://arxiv.org/abs/2112.10752, as released (scripts/inpaint.py): 3 + 3 + 1 channels."""

SD_INPAINTING = MaskedImageConfig(fill=0.0, values=(0.0, 1.0), map_first=True, nearest=True)
"""Stable Diffusion's inpainting models: 4 + 1 + 4 channels."""

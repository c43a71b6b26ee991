"""A small and bad version of the picture, as channels of x_t: super-resolution.

    small (B, 3, h, w) --resized to the latent's resolution--> spatial (B, 3, times h / factor, times w / factor)

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 4.4: fourfold, on latents of factor 4, so that the small
picture fits as it is. With noise it is told how much: Ho et al. 2021, https://arxiv.org/abs/2106.15282, section 4.2
(conditioning augmentation), make the data's small pictures sqrt(1 - s^2) x + s eps, so that a model learns not to trust
every pixel, and takes another model's results.
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
from calotype.nn.layers import timestep_embedding
from calotype.nn.sizes import WIDEST, check_sizes
from calotype.types import Image


class LowResolution(OfPictures):
    """ "low_resolution" (B, 3, h, w) in [-1, 1] -> spatial (B, 3, times h / factor, times w / factor).

    With `config.noise` also "noise_level" (B,) in [0, 1] -> vector (B, width): sines and cosines of 1000 s.

    Null is zeros.

    Args:
        config: what it is told.
        latents: at whose resolution the picture is needed.
    """

    def __init__(self, config: LowResolutionConfig, latents: Latents) -> None:
        super().__init__(config.drop, config.guided)
        self.config, self.factor = config, latents.factor
        self.reads = ("low_resolution", "noise_level") if config.noise else ("low_resolution",)

    def routes(self) -> Routes:
        """The picture's channels, and the level's sines and cosines."""
        return Routes(spatial=3, vector=self.config.width if self.config.noise else None)

    def forward(self, batch: Mapping[str, Any]) -> Condition:
        """Raises `UserError` for what is no RGB picture, a size that does not fit the latents, or no noise level."""
        small = self._fitting(self.pictures(batch, "low_resolution"))
        return Condition(spatial=small, vector=self._level(batch, len(small)) if self.config.noise else None)

    def _fitting(self, x: Image) -> Image:
        times = self.config.times
        if times == self.factor:
            return x
        height, width = times * x.shape[2], times * x.shape[3]
        check_sides("the picture that 'low_resolution' is to become", height, width, self.factor)
        size = (height // self.factor, width // self.factor)
        return F.interpolate(x, size, mode="bicubic", align_corners=False, antialias=times < self.factor)

    def _level(self, batch: Mapping[str, Any], n: int) -> Tensor:
        level = torch.as_tensor(batch["noise_level"], dtype=torch.float32, device=self.here.device)
        if level.shape != (n,) or not ((level >= 0) & (level <= 1)).all():
            raise UserError(
                f"'noise_level' must be a number in [0, 1] for each of {n} pictures, got {level.tolist()}; 0 = no noise"
            )
        return timestep_embedding(1000 * level, self.config.width)

    def null(self, n: int) -> Condition:
        """Zeros."""
        vector = torch.zeros(n, self.config.width, device=self.here.device) if self.config.noise else None
        return Condition(spatial=torch.zeros(n, 3, 1, 1, device=self.here.device), vector=vector)


@conditioners.register("low_resolution")
@dataclass(frozen=True)
class LowResolutionConfig:
    """A small version of the picture, as channels of x_t: config of `LowResolution`.

    Args:
        times: how many times higher and wider the picture is; the factor of the data's degradation.
        noise: whether it is told how much noise lies over the small picture, which
            `data.low_resolution_noise` is the most of.
        width: of the vector that says so.
        drop: probability of dropping the small picture alone.
        guided: whether guidance strengthens it; otherwise there always is one.
    """

    times: int = 4
    noise: bool = False
    width: int = 256
    drop: float = 0.0
    guided: bool = False
    essential: ClassVar[bool] = True
    remedy: ClassVar[str] = (
        "have them made: data.degradation=bicubic, and data.low_resolution_noise=0.5 where noise is to be told"
    )

    def __post_init__(self) -> None:
        check_sizes(times=(self.times, 64), width=(self.width, WIDEST))
        check_drop(self.drop, self.guided)

    def lacks(self, corpus: Corpus) -> str:
        """Low-resolution pictures, where there are none."""
        needed = {"low_resolution", "noise_level"} if self.noise else {"low_resolution"}
        return "" if needed <= set(corpus.entries) else "low-resolution pictures"

    def fit(self, corpus: Corpus, latents: Latents) -> LowResolution:
        """A conditioner for the degraded pictures of the data."""
        if corpus.shrinks != self.times:
            raise UserError(
                f"low-resolution pictures are {corpus.shrinks} times smaller here, but the conditioner's times is "
                f"{self.times}; take times={corpus.shrinks} there, or data.degradation.factor={self.times}"
            )
        return LowResolution(self, latents)

    def load(self, assets: Mapping[str, str], latents: Latents) -> LowResolution:
        """The same again."""
        return LowResolution(self, latents)

"""The milder degradation of latent diffusion's BSR model."""

from __future__ import annotations

from dataclasses import dataclass, field

from calotype.data.degradations.base import degradations
from calotype.data.degradations.blur import RandomBlur
from calotype.data.degradations.jpeg import RandomJPEG
from calotype.data.degradations.noise import RandomNoise
from calotype.data.degradations.shuffled import Shuffled


@degradations.register("bsr_light")
@dataclass(frozen=True)
class BSRLight(Shuffled):
    """Unknown but mild: one blur of a quarter of BSRGAN's width, hardly visible noise, good JPEGs (see `Shuffled`).

    What Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix D.6.1, trained LDM-BSR on: `bsrgan_light` of
    CompVis/latent-diffusion. Its other function, for patches, is `BSRLight(blurs=2, resized=0.75,
    noise=RandomNoise((2, 8)))`.

    Differs from it where it has bugs: those that `BSR` names, and its kernels of an even number of pixels, which move
    the picture by half a pixel against the sharp one, are one pixel larger here.
    """

    factor: int = 4
    blur: RandomBlur = field(default=RandomBlur(0.25, long_sizes=tuple(range(5, 15)), round_sizes=(5, 6, 7)))
    blurs: int = 1
    resized: float = 0.8
    noise: RandomNoise = field(default=RandomNoise((1, 2)))
    jpeg: RandomJPEG = field(default=RandomJPEG((80, 95)))

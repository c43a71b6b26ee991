"""Euler-ancestral: the name under which ancestral sampling in sigma / alpha is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.samplers.ddim import DDIM
from calotype.diffusion.schedule import Schedule
from calotype.types import Denoise, Latent, Noise


@samplers.register("euler_ancestral")
@dataclass(frozen=True)
class EulerAncestral(Sampler):
    """A step of Euler's method to less than the next noise, and fresh noise on top. With S = sigma / alpha:

        S_up^2 = S_s^2 (S_t^2 - S_s^2) / S_t^2,    S_down^2 = S_s^2 - S_up^2
        x_s / alpha_s = x_0 + S_down eps + S_up xi

    which is `DDIM` with eta = 1, term by term: alpha_s^2 S_up^2 = tau sigma_s^2. Song et al. 2021,
    https://arxiv.org/abs/2011.13456, appendix F, as k-diffusion and diffusers write it."""

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`."""
        return DDIM(eta=1.0)(denoise, x, times, schedule, noise)

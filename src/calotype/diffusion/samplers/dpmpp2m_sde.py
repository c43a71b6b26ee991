"""SDE-DPM-Solver++(2M): DPM-Solver++(2M) with fresh noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.samplers.dpmpp2m import DPMpp2M
from calotype.diffusion.schedule import Schedule
from calotype.types import Denoise, Latent, Noise


@samplers.register("dpmpp2m_sde")
@dataclass(frozen=True)
class DPMpp2MSDE(Sampler):
    """Lu et al. 2022, https://arxiv.org/abs/2211.01095, appendix A: `DPMpp2M` with eta = 1,

        x_s = sigma_s / sigma_t e^-h x_t + alpha_s (1 - e^-2h) D + sigma_s sqrt(1 - e^-2h) xi

    A name for what is chosen by name alone. In mean and covariance it is of first order, like every method here that
    adds independent noise in each step, with a smaller constant than `DDIM(eta=1)`."""

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`."""
        return DPMpp2M(eta=1.0)(denoise, x, times, schedule, noise)

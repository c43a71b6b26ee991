"""DDIM: the deterministic walk, and everything between it and the ancestral one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.types import Denoise, Latent, Noise


@samplers.register("ddim")
@dataclass(frozen=True)
class DDIM(Sampler):
    """Song et al. 2021, https://arxiv.org/abs/2010.02502, eq. (12) in (alpha, sigma) form; eta = 1 is ancestral DDPM.

        x_s = alpha_s x_0 + sigma_s (sqrt(1 - tau) eps + sqrt(tau) xi)
        tau = eta^2 (1 - (alpha_t sigma_s / (alpha_s sigma_t))^2)

    Exact for a single data point, whatever the steps.

    Raises:
        UserError: eta outside [0, 1].
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta must lie in [0, 1], got {self.eta}; 0 is deterministic, 1 is ancestral")

    @torch.no_grad()  # torch re-enters the context at every yield
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`."""
        for t, s in pairwise(times):
            (a_t, s_t), (a_s, s_s) = schedule.at(t), schedule.at(s)
            x_0 = denoise(x, t.expand(len(x)))
            eps = (x - a_t * x_0) / s_t
            tau = self.eta**2 * (1 - (a_t * s_s / (a_s * s_t)) ** 2)
            x = a_s * x_0 + s_s * ((1 - tau).sqrt() * eps + tau.sqrt() * noise(x))
            yield Step(x, s, x_0)

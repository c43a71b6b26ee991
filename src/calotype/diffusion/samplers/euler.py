"""Euler's method for the probability flow in sigma / alpha, with churn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.samplers.churn import Churn
from calotype.diffusion.samplers.ddim import ddim_step
from calotype.diffusion.schedule import Schedule
from calotype.types import Denoise, Latent, Noise


@samplers.register("euler")
@dataclass(frozen=True)
class Euler(Sampler):
    """Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2 without lines 9 to 11. With S = sigma / alpha:

        x_s / alpha_s = x_t / alpha_t + (S_s - S_t) eps

    which is the step of `DDIM`; the two differ in how they add noise. On the linear path it is Euler's method for the
    flow, x_s = x_t + (s - t) (eps - x_0), so this is the sampler of rectified flow and Stable Diffusion 3 as well.

    diffusers' Euler adds its churn after the network has been asked, and keeps the answer. Its flow sampler ends its
    grid at t = 1 / T before 0, and shifts that end as well (`Shifted` curves are shifted once).

    Args:
        churn: noise added before each step; by default none.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    churn: Churn = field(default_factory=Churn)

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`."""
        for t, s in pairwise(times):
            x, later = self.churn(schedule, x, t, len(times) - 1, noise)
            x_0 = denoise(x, later.expand(len(x)))
            x = ddim_step(schedule, x, x_0, later, s)
            yield Step(x, s, x_0)

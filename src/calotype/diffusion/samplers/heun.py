"""Heun: EDM's second-order sampler, with churn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.samplers.churn import Churn
from calotype.diffusion.schedule import Schedule
from calotype.types import Denoise, Latent, Noise


@samplers.register("heun")
@dataclass(frozen=True)
class Heun(Sampler):
    """Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2. With S = sigma / alpha:

        x_s / alpha_s = x_t / alpha_t + (S_s - S_t) (eps(x_t, t) + eps(x', s)) / 2,    x' from Euler's step

    Two network calls per step; one on arrival at t = 0, where eps has no meaning, and from alpha = 0, where S_t is
    infinite: there it is Euler's step. Steps in S should be graded, as those of `Karras` are: a single one from a very
    large S (`UniformGrid` on a curve that ends in little signal) multiplies the network's error by S_t / 2.

    diffusers' Heun has no churn, and begins at the largest S of its table.

    Args:
        churn: noise added before each step; by default none.
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False

    churn: Churn = field(default_factory=Churn)

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`."""
        for t, s in pairwise(times):
            x, later = self.churn(schedule, x, t, len(times) - 1, noise)
            (a_t, s_t), (a_s, s_s) = schedule.at(later), schedule.at(s)
            x_0 = denoise(x, later.expand(len(x)))
            eps = (x - a_t * x_0) / s_t
            x = a_s * x_0 + s_s * eps
            if s > 0 and a_t > 0:
                x_0 = denoise(x, s.expand(len(x)))
                x = x + (s_s - a_s * s_t / a_t) / 2 * ((x - a_s * x_0) / s_s - eps)
            yield Step(x, s, x_0)

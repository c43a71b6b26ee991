"""DPM-Solver++(2M): second order at one network call per step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.schedule import Schedule
from calotype.types import Denoise, Latent, Noise


@samplers.register("dpmpp2m")
@dataclass(frozen=True)
class DPMpp2M(Sampler):
    """Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2:

        x_s = sigma_s / sigma_t x_t + (alpha_s - alpha_t sigma_s / sigma_t) D,    D = x_0 + h / (2 h') (x_0 - x_0')

    with primes for the step before and h the step in log(alpha / sigma). The first step and the one that arrives at
    t = 0, where h is infinite or so long that extrapolating does harm, take D = x_0 and so are DDIM's."""

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`; `noise` is not used."""
        before: tuple[Tensor, Latent] | None = None
        for t, s in pairwise(times):
            (a_t, s_t), (a_s, s_s) = schedule.at(t), schedule.at(s)
            h = (schedule.logsnr(s) - schedule.logsnr(t)) / 2
            d = x_0 = denoise(x, t.expand(len(x)))
            if before is not None and s > 0:
                h_before, x_0_before = before
                d = x_0 + h / (2 * h_before) * (x_0 - x_0_before)
            x = s_s / s_t * x + (a_s - a_t * s_s / s_t) * d
            before = h, x_0
            yield Step(x, s, x_0)

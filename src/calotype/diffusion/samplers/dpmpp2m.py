"""DPM-Solver++(2M): second order at one network call per step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.samplers.ddim import check_eta, ddim_step
from calotype.diffusion.schedule import Schedule
from calotype.types import Denoise, Latent, Noise


@samplers.register("dpmpp2m")
@dataclass(frozen=True)
class DPMpp2M(Sampler):
    """Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2:

        x_s = sigma_s / sigma_t x_t + (alpha_s - alpha_t sigma_s / sigma_t) D,    D = x_0 + h / (2 h') (x_0 - x_0')

    with primes for the step before and h the step in log(alpha / sigma): DDIM's step with a prediction extrapolated to
    the middle of the interval. The first step and the one that arrives at t = 0, where h is infinite or so long that
    extrapolating does harm, take D = x_0. diffusers does so under its defaults; its `final_sigmas_type="sigma_min"`
    stops short of t = 0.

    Args:
        eta: the share of fresh noise, as in `DDIM`. 1 is the paper's SDE-DPM-Solver++(2M), see `DPMpp2MSDE`; what is
            extrapolated then includes the noise of the step before, so the order falls to 1.

    Raises:
        UserError: eta outside [0, 1].
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False

    eta: float = 0.0

    def __post_init__(self) -> None:
        check_eta(self.eta)

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`."""
        before: tuple[Tensor, Latent] | None = None
        for t, s in pairwise(times):
            h = (schedule.logsnr(s) - schedule.logsnr(t)) / 2
            d = x_0 = denoise(x, t.expand(len(x)))
            if before is not None and s > 0:
                h_before, x_0_before = before
                d = x_0 + h / (2 * h_before) * (x_0 - x_0_before)
            x = ddim_step(schedule, x, d, t, s, self.eta, noise)
            before = h, x_0
            yield Step(x, s, x_0)

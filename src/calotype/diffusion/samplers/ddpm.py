"""DDPM: ancestral sampling, at any step size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.variance import FixedSmall, Transition, Variance, predictor
from calotype.errors import UserError
from calotype.types import Denoise, Latent, Noise


@samplers.register("ddpm")
@dataclass(frozen=True)
class DDPM(Sampler):
    """Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (6, 7), for an interval from t to s < t of any length:

        x_s ~ N(alpha_t sigma_s^2 / (alpha_s sigma_t^2) x_t - alpha_s expm1(Delta) x_0, variance)

    with Delta the step in log-SNR; see `Transition`. A few steps on a table are what Nichol & Dhariwal 2021,
    https://arxiv.org/abs/2102.09672, call respacing: beta' = 1 - abar_t / abar_s, and the network sees its own indices.
    On arrival at t = 0 the sample is x_0, without noise; diffusers' "fixed_large" adds some to a respaced chain.

    Args:
        variance: `FixedSmall`, the posterior's (right for a single data point), `FixedLarge`, all that came in between
            s and t (right for N(0, I) data), or `LearnedRange`, of the denoisers that say it.

    Raises:
        UserError: when checked or while sampling, a learned variance is asked of a denoiser that has none.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    variance: Variance = field(default_factory=FixedSmall)

    def check(self, times: Tensor, schedule: Schedule, variance: Variance) -> None:
        """A variance that is read off the network must have been learned."""
        if self.variance.outputs > variance.outputs:
            raise UserError(
                f"{self} reads the variance off the network, which was trained with {variance} and gives none; take "
                "sampler.variance=fixed_small, or train with variance=learned_range"
            )

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`."""
        predict = predictor(denoise)
        for t, s in pairwise(times):
            step = Transition.of(schedule, t, s)
            x_0, v = predict(x, t.expand(len(x)))
            x = x.to(x_0.dtype)
            mean, std = step.mean(x, x_0), (self.variance.log_variance(step, x, v) / 2).exp()
            x = mean if step.arrives else mean + std * noise(x)
            yield Step(x, s, x_0)

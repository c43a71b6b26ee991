"""DDPM: ancestral sampling, at any step size."""

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


@samplers.register("ddpm")
@dataclass(frozen=True)
class DDPM(Sampler):
    """Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (6, 7), for an interval from t to s < t of any length:

        q(x_s | x_t, x_0) = N((r sigma_s^2 x_t + alpha_s b x_0) / sigma_t^2, b sigma_s^2 / sigma_t^2)

    with r = alpha_t / alpha_s and b = sigma_t^2 - r^2 sigma_s^2, the noise that came in between s and t (beta_t for one
    entry of a table). No noise is added on arrival at t = 0.

    Args:
        spread: which variance the reverse step has, as log-interpolation from the posterior's (0, "fixed small", right
            for a single data point) to b (1, "fixed large", right for N(0, I) data).

    Raises:
        UserError: spread outside [0, 1].
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True

    spread: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.spread <= 1:
            raise UserError(f"spread must lie in [0, 1], got {self.spread}; 0 is fixed small, 1 is fixed large")

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`."""
        for t, s in pairwise(times):
            (a_t, s_t), (a_s, s_s) = schedule.at(t), schedule.at(s)
            x_0 = denoise(x, t.expand(len(x)))
            r = a_t / a_s
            b = s_t**2 - r**2 * s_s**2
            variance = (s > 0) * b * (s_s / s_t) ** (2 - 2 * self.spread)
            x = (r * s_s**2 * x + a_s * b * x_0) / s_t**2 + variance.sqrt() * noise(x)
            yield Step(x, s, x_0)

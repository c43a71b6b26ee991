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


def ddim_step(
    schedule: Schedule, x: Latent, x_0: Latent, t: Tensor, s: Tensor, eta: float = 0.0, noise: Noise = torch.zeros_like
) -> Latent:
    """x at the time t as it would be at s, with the noise it shows if the clean sample is x_0; see `DDIM`.

    DPM-Solver++ and UniPC take this step too, and differ in the x_0 they believe in.

    Args:
        schedule: the forward process.
        x, x_0: (B, ...); x is widened to the dtype of x_0.
        t, s: scalars in [0, 1], sigma_t and alpha_s not 0.
        eta: the share of fresh noise, 0 ... 1.
        noise: x -> N(0, 1) noise like x; not asked if eta is 0.
    """
    (a_t, s_t), (a_s, s_s) = schedule.at(t), schedule.at(s)
    eps = (x - a_t * x_0) / s_t
    if eta == 0:
        return a_s * x_0 + s_s * eps
    tau = eta**2 * (1 - (a_t * s_s / (a_s * s_t)) ** 2)
    return a_s * x_0 + s_s * ((1 - tau).sqrt() * eps + tau.sqrt() * noise(x))


def check_eta(eta: float) -> None:
    """Raises `UserError` outside [0, 1]."""
    if not 0 <= eta <= 1:
        raise UserError(f"eta must lie in [0, 1], got {eta}; 0 is deterministic, 1 is ancestral")


@samplers.register("ddim")
@dataclass(frozen=True)
class DDIM(Sampler):
    """Song et al. 2021, https://arxiv.org/abs/2010.02502, eq. (12) in (alpha, sigma) form; eta = 1 is ancestral DDPM.

        x_s = alpha_s x_0 + sigma_s (sqrt(1 - tau) eps + sqrt(tau) xi)
        tau = eta^2 (1 - (alpha_t sigma_s / (alpha_s sigma_t))^2)

    Exact for a single data point, whatever the steps. eta = 0 is Euler's method for the probability flow in
    sigma / alpha, and on the linear path also Euler's method for the flow dx = (eps - x_0) dt.

    Its last step reaches the curve's clean end: alpha = 1, sigma = 0, or as near as the curve goes. Code that ends at
    the first entry of a table instead (CompVis; diffusers with `set_alpha_to_one=False`) returns what `Step` shows one
    step earlier on a grid that ends at 1 / T. diffusers steps to the index t - T // N, the next grid point only where N
    divides T.

    Raises:
        UserError: eta outside [0, 1].
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False

    eta: float = 0.0

    def __post_init__(self) -> None:
        check_eta(self.eta)

    @torch.no_grad()  # torch re-enters the context at every yield
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`."""
        for t, s in pairwise(times):
            x_0 = denoise(x, t.expand(len(x)))
            x = ddim_step(schedule, x, x_0, t, s, self.eta, noise)
            yield Step(x, s, x_0)

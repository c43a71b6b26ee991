"""PLMS: what the last four calls of the network said about the noise, combined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from calotype.diffusion.samplers.base import Sampler, Step, samplers
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.variance import Variance
from calotype.errors import UserError
from calotype.types import Denoise, Latent, Noise

FARTHEST = 200.0
"""Largest sigma / alpha to begin at: DDPM's table ends at 158."""

_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the latest slopes, the newest first."""


@samplers.register("plms")
@dataclass(frozen=True)
class PLMS(Sampler):
    """Pseudo numerical methods: Liu et al. 2022, https://arxiv.org/abs/2202.09778, algorithm 2 (F-PNDM). DDIM's step,

        x_s = alpha_s / alpha_t x_t + (sigma_s - alpha_s sigma_t / alpha_t) e

    with e = (55 eps - 59 eps' + 37 eps'' - 9 eps''') / 24 in place of eps, primes for the steps before. The weights are
    those of equal steps in sigma / alpha, which no usual grid has, so the order is 2. The grid should be graded: equal
    steps in t of a table of betas are, those of a cosine are not and let it explode.

    Where sigma / alpha is infinite (alpha = 0), the step is DDIM's; a warm step that would look at t = 0 is left out.
    As for `Heun`, steps in sigma / alpha should be graded. diffusers steps to the index t - T // N, so that it agrees
    only where N divides T (and 2 N, for the warm steps), and combines the velocities of a network that predicts them.

    Args:
        runge_kutta: begin as in the paper, with three pseudo Runge-Kutta steps of four network calls. False begins as
            CompVis' PLMS and diffusers' `skip_prk_steps` do, with a pseudo Heun step of two calls, then with as much of
            the past as there is: n + 1 calls for n steps.
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False

    runge_kutta: bool = True

    def check(self, times: Tensor, schedule: Schedule, variance: Variance) -> None:
        """The first step in sigma / alpha must not begin far out, where a slope of the network is multiplied by it."""
        ratio = (-schedule.logsnr(times[:2]) / 2).exp()
        first = float(ratio[ratio.isfinite()][:1].sum())
        if first > FARTHEST:
            raise UserError(
                f"plms steps in sigma / alpha, which these times begin at {first:.3g}; take a grid that begins at "
                f"{FARTHEST:g} or below, such as karras, or the sampler ddim"
            )

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """See `Sampler`; `noise` is not used."""
        past: list[Latent] = []
        for i, (t, s) in enumerate(pairwise(times)):
            x_0 = denoise(x, t.expand(len(x)))
            a_t, s_t = schedule.at(t)
            eps = (x - a_t * x_0) / s_t
            past = [eps, *past[:3]]
            here = _Transfer(schedule, denoise, x, x_0, eps, t)
            if a_t == 0:
                slope = eps
            elif self.runge_kutta and i < 3 and s > 0:
                slope = here.runge_kutta(s)
            elif i == 0 and s > 0:
                slope = (eps + here.slope_after(eps, s)) / 2
            else:
                slope = _weighted(_ADAMS_BASHFORTH[len(past) - 1], past)
            x = here.to(s, slope)
            yield Step(x, s, x_0)


@dataclass(frozen=True, eq=False)
class _Transfer:
    """Where x at t, with the prediction x_0 and its eps, goes along which slope."""

    schedule: Schedule
    denoise: Denoise
    x: Latent
    x_0: Latent
    eps: Latent
    t: Tensor

    def to(self, s: Tensor, slope: Latent) -> Latent:
        """x at s."""
        (a_t, s_t), (a_s, s_s) = self.schedule.at(self.t), self.schedule.at(s)
        x = a_s * self.x_0 + s_s * self.eps
        return x if slope is self.eps else x + (s_s - a_s * s_t / a_t) * (slope - self.eps)

    def slope_after(self, slope: Latent, s: Tensor) -> Latent:
        """eps at s, having gone there along `slope`."""
        x, (a_s, s_s) = self.to(s, slope), self.schedule.at(s)
        return (x - a_s * self.denoise(x, s.expand(len(x)))) / s_s

    def runge_kutta(self, s: Tensor) -> Latent:
        """The mean slope from t to s: one look at t, two half way, one at s."""
        half = (self.t + s) / 2
        second = self.slope_after(self.eps, half)
        third = self.slope_after(second, half)
        fourth = self.slope_after(third, s)
        return (self.eps + 2 * second + 2 * third + fourth) / 6


def _weighted(weights: Sequence[float], slopes: Sequence[Latent]) -> Latent:
    total = weights[0] * slopes[0]
    for w, slope in zip(weights[1:], slopes[1:], strict=True):
        total = total + w * slope
    return total

"""DDIM backwards: from a sample to the noise that DDIM makes it of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from calotype.diffusion.samplers.base import Step
from calotype.diffusion.samplers.ddim import ddim_step
from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.types import Denoise, Latent


@torch.no_grad()
def invert(denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, refinements: int = 0) -> Iterator[Step]:
    """DDIM's step taken from t to s > t, one `Step` per interval of `times`:

        x_s = alpha_s / alpha_t x_t + (sigma_s - alpha_s sigma_t / alpha_t) eps

    Song et al. 2021, https://arxiv.org/abs/2010.02502, section 4.3. DDIM on the way back asks for eps at s instead, so
    a round trip has an error of first order. A refinement takes DDIM's step back from x_s, and adds to x_s what is
    missing of x_t, times (alpha_s^2 + sigma_s^2) / (alpha_s alpha_t + sigma_s sigma_t): a fixed-point iteration (in the
    spirit of Pan et al. 2023, https://arxiv.org/abs/2309.04907) for the x_s that DDIM takes to x_t, written so that it
    converges for short steps at both ends of time. Then the round trip is exact.

    A sample at t = 0 shows no noise, so there eps is that at s of alpha_s / alpha_t x_t.

    Args:
        denoise: (x_t, t) -> E[x_0 | x_t], with t (B,).
        x: the sample at times[0] (B, ...), widened to the dtype of the predictions.
        times: n + 1 strictly increasing times (n + 1,) in [0, 1], float64 on the CPU: `Grid(...).flip(0)`.
        schedule: the forward process of `denoise`.
        refinements: how often each step is repeated; each costs one network call.

    Raises:
        UserError: times do not increase, or a negative number of refinements. On the first `next`.
    """
    if not bool((times[1:] > times[:-1]).all()):
        raise UserError(f"inversion needs increasing times, got {times.tolist()}; flip the grid: times.flip(0)")
    if refinements < 0:
        raise UserError(f"inversion needs refinements >= 0, got {refinements}; 0 is the plain first-order method")

    for t, s in pairwise(times):
        (a_t, s_t), (a_s, s_s) = schedule.at(t), schedule.at(s)
        x_t, carried = x, a_s / a_t * x
        if t > 0:
            x_0 = denoise(x_t, t.expand(len(x)))
            eps = (x_t - a_t * x_0) / s_t
        else:
            x_0 = denoise(carried, s.expand(len(x)))
            eps = (carried - a_s * x_0) / s_s
        x = carried + (s_s - a_s * s_t / a_t) * eps
        for _ in range(refinements):
            x_0 = denoise(x, s.expand(len(x)))
            missing = x_t - ddim_step(schedule, x, x_0, s, t)
            x = x + (a_s**2 + s_s**2) / (a_s * a_t + s_s * s_t) * missing
        yield Step(x, s, x_0)

"""Classifier guidance: towards what a classifier of noisy samples takes for class y."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from calotype.diffusion.guidance import adjusted
from calotype.diffusion.schedule import Schedule, wide
from calotype.diffusion.wrappers.tilt import check_scale, gradient, tilted
from calotype.types import Denoise, Latent, Time

LogProb = Callable[[Latent, Time], Tensor]
"""(x_t, t) -> log p(y_i | x_t_i), one number per sample (B,)."""


def classifier(denoise: Denoise, schedule: Schedule, log_prob: LogProb, scale: float = 1.0) -> Denoise:
    """x_0 + scale sigma^2 / alpha grad log p(y | x_t), in pixel or latent space, for any sampler.

    Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, section 4.2. In an ancestral step from t to s this moves
    the mean by scale large alpha_s / alpha_t g (see `variance`), where the paper's algorithm 1 moves it by the step's
    own variance: the same but for terms of second order in the step.

    The true gradient falls with alpha; that of a network need not, and then the predictions at high noise are far off.
    A sampler of one step weighs them by alpha and takes no harm. A multistep one extrapolates from them: with large
    scales take `ddim` or `ddpm`, more steps, or a grid that begins later.

    Args:
        denoise: conditional, guided or neither; it is not differentiated.
        schedule: of both.
        log_prob: of the wanted classes, differentiable; it is asked at x_t itself, in float32 (float64 if x_t is).
        scale: 1 is Bayes' rule, for a classifier that is right; larger insists. 0 gives `denoise` back. Not the scale
            of classifier-free guidance: ADM takes 0.5 to 10.

    Raises:
        UserError: a scale that is not finite.
    """
    check_scale(scale)
    if scale == 0:
        return denoise

    def change(x_0: Latent, x_t: Latent, t: Time) -> Latent:
        with torch.enable_grad():  # samplers turn gradients off
            x = x_t.detach().to(wide(x_t)).requires_grad_()
            g = gradient(log_prob(x, t), x)
        return tilted(x_0, g, schedule, t, scale)

    return adjusted(denoise, change)

"""A prediction, moved by the gradient of a log-likelihood.

By Tweedie's formula alpha E[x_0 | x_t] = x_t + sigma^2 grad log p(x_t), so that with g = grad_x_t log p(y | x_t)

    E[x_0 | x_t, y] = E[x_0 | x_t] + sigma^2 / alpha g        (eps_hat = eps - sigma g)

for every schedule and sampler. Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, algorithm 2, prints the second
form; appendix C of https://arxiv.org/abs/2112.10752 has its sign wrong.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calotype.diffusion.schedule import Schedule, rows
from calotype.errors import UserError
from calotype.types import Latent, Time


def tilted(x_0: Latent, g: Latent, schedule: Schedule, t: Time, scale: float) -> Latent:
    """x_0 + scale sigma^2 / alpha g, like x_0 (B, ...).

    Where alpha = 0 the sample says nothing, g carries no information either, and x_0 stays as it is."""
    alpha, sigma = schedule.at(t.double())
    return x_0 + rows(torch.where(alpha > 0, scale * sigma**2 / alpha, 0.0), x_0) * g.to(x_0)


def gradient(log_p: Tensor, x: Latent) -> Latent:
    """d log_p_i / d x_i for log_p (B,) of samples x (B, ...) that do not see each other.

    Raises:
        ValueError: log_p is not one number per sample, or does not depend on x in a way that can be differentiated.
    """
    if log_p.shape != x.shape[:1]:
        raise ValueError(f"guidance needs one log-likelihood per sample, ({len(x)},), got {tuple(log_p.shape)}")
    if not log_p.requires_grad:
        raise ValueError("the log-likelihood has no gradient; compute it without no_grad, detach or NumPy")
    (g,) = torch.autograd.grad(log_p.sum(), x, materialize_grads=True)
    return g


def check_scale(scale: float) -> None:
    """Raise `UserError` unless a guidance scale is finite."""
    if not math.isfinite(scale):
        raise UserError(f"the scale of guidance must be finite, got {scale}; 0 is none, 1 is Bayes' rule")

"""Upsample guidance: pictures m times larger than a model was trained for, composed as it has learned to.

Hwang et al. 2024, https://arxiv.org/abs/2404.01709. With D the m x m average, D[x_t] = alpha D[x_0] + (sigma / m) eps'
is a small sample of the same process at a time tau of m^2 times the SNR. Asked there, the denoiser says what D[x_0]
should be; the paper's change of eps, written for x_0, is

    x_0 <- x_0 + scale Up[E[D[x_0] | D[x_t]] - D[x_0]]

which for scale 1 makes the prediction, averaged, the small one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.diffusion.guidance import adjusted
from calotype.diffusion.schedule import Schedule, rows
from calotype.diffusion.wrappers.tilt import check_scale
from calotype.errors import UserError
from calotype.types import Denoise, Latent, Time


def upsample(
    denoise: Denoise,
    schedule: Schedule,
    factor: int,
    *,
    small: Denoise | None = None,
    scale: float = 1.0,
    share: float = 0.5,
) -> Denoise:
    """Match the down-sampled prediction to what the model predicts at its own size; 1 / m^2 more to compute.

    Args:
        denoise: at the large size.
        schedule: of both.
        factor: m; the sides are multiples of it. 1 gives `denoise` back.
        small: at the small size; `denoise` itself if None, where its conditions do not depend on the size.
        scale: theta of the paper.
        share: eta: act at t >= 1 - share, where composition is decided. The paper takes 0.3 to 0.6; details need the
            rest for themselves.

    Raises:
        UserError: a factor below 1, a scale that is not finite, a share outside [0, 1]; when called, sides that are no
            multiples of the factor.
    """
    check_scale(scale)
    if factor < 1 or not 0 <= share <= 1:
        raise UserError(f"upsampling needs a factor >= 1 and a share in [0, 1], got {factor} and {share}")
    if factor == 1 or scale == 0:
        return denoise
    at_own_size = denoise if small is None else small

    def change(x_0: Latent, x_t: Latent, t: Time) -> Latent:
        if x_t.shape[-1] % factor or x_t.shape[-2] % factor:
            raise UserError(f"upsampling by {factor} needs sides that are multiples of it, got {tuple(x_t.shape[-2:])}")
        acts = t >= 1 - share
        if not acts.any():
            return x_0
        difference = at_own_size(*shrunk(x_t, t, schedule, factor)) - F.avg_pool2d(x_0, factor)
        weight = rows(scale * acts.double(), x_0)
        return x_0 + weight * F.interpolate(difference, scale_factor=factor, mode="nearest")

    return adjusted(denoise, change)


def shrunk(x_t: Latent, t: Time, schedule: Schedule, factor: int) -> tuple[Latent, Tensor]:
    """(x_tau, tau): the m x m averages of x_t (B, C, H, W) as a sample of the same process at the time tau (B,).

    Beyond the clean end of the schedule tau is that end."""
    alpha, sigma = schedule.at(t.double())
    tau = schedule.time(schedule.logsnr(t.double()) + 2 * torch.log(torch.tensor(factor, dtype=torch.float64)))
    # the amplitude of what arrives over that of the process at tau: exact whenever their SNRs agree, and never 0 / 0
    ratio = torch.hypot(alpha, sigma / factor) / torch.hypot(*schedule.at(tau))
    small = F.avg_pool2d(x_t, factor)
    return small / rows(ratio, small), tau.to(t)

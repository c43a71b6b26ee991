"""Known pixels kept: inpainting by a model that was not trained for it.

A mask is boolean, True where x_0 is known, of any shape that broadcasts with x_0. In latent space it is made of the
pixels' mask by `latent_mask`, and x_0 is the picture's latent.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.diffusion.guidance import Guided, adjusted
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.variance import Prediction, predictor
from calotype.types import Denoise, Latent, Noise, Time


def keep_known(denoise: Denoise, x_0: Latent, mask: Tensor) -> Denoise:
    """The known part of every prediction is what is known.

    A deterministic sampler then carries alpha x_0 + sigma eps there, with the eps that it began with: noise-matched at
    every t, and x_0 itself at t = 0 (to the last bit after `paste`). A stochastic one adds its own noise. The unknown
    part hears of the known one through x_t alone, so seams are smoother with many or stochastic steps.

    Args:
        x_0: clean (B, C, H, W) or (1, C, H, W); its values outside the mask do not matter.
        mask: bool.

    Raises:
        ValueError: a mask that is not boolean or does not broadcast with x_0.
    """
    check_mask(x_0, mask)

    def change(predicted: Latent, x_t: Latent, t: Time) -> Latent:
        return paste(predicted, x_0, mask)

    return adjusted(denoise, change)


def keep_known_renoised(denoise: Denoise, x_0: Latent, mask: Tensor, schedule: Schedule, noise: Noise) -> Denoise:
    """`keep_known`, and the denoiser is shown the known part with fresh noise of the right level at every call.

    Lugmayr et al. 2022 (RePaint), https://arxiv.org/abs/2201.09865, eq. (8), for any sampler; without the paper's jumps
    back in time. The known part cannot drift from the forward process, whatever the sampler does to it.

    Args (besides those of `keep_known`):
        schedule: of `denoise`.
        noise: x -> N(0, 1) like x, one generator per sample. Give it one of its own: the sampler draws too.

    Raises:
        ValueError: see `keep_known`.
    """
    check_mask(x_0, mask)

    def predict(x_t: Tensor, t: Tensor) -> Prediction:
        known = schedule.perturb(x_0.to(x_t).expand_as(x_t), noise(x_t), t)
        predicted, v = predictor(denoise)(paste(x_t, known, mask), t)
        return Prediction(paste(predicted, x_0, mask), v)

    return Guided(predict)


def paste(x: Latent, x_0: Latent, mask: Tensor) -> Latent:
    """x with x_0 where the mask is True, bit for bit; what ends every inpainting.

    In latent space it is used on the decoded picture too, for a decoder changes pixels that it was given right."""
    return torch.where(mask.to(x.device), x_0.to(x), x)


def latent_mask(mask: Tensor, factor: int, margin: int = 0) -> Tensor:
    """A pixels' mask (B, 1, H, W) as a latent's (B, 1, H / factor, W / factor): known where all pixels are.

    Args:
        mask: bool, True where known.
        factor: pixels per latent position.
        margin: a latent position is known only if this many around it are, so that no encoder looks into the hole.

    Raises:
        ValueError: a mask that is not boolean, or sides that are not multiples of the factor.
    """
    if mask.dtype != torch.bool or mask.dim() != 4 or mask.shape[-1] % factor or mask.shape[-2] % factor:
        raise ValueError(
            f"a mask is bool (B, 1, H, W) with sides that are multiples of {factor}, got {mask.dtype} "
            f"{tuple(mask.shape)}"
        )
    hole = F.max_pool2d((~mask).float(), factor)
    if margin:
        hole = F.max_pool2d(hole, 2 * margin + 1, stride=1, padding=margin)
    return hole == 0


def check_mask(x_0: Latent, mask: Tensor) -> None:
    """Raise `ValueError` unless the mask is boolean and broadcasts with x_0 to its shape, or to more samples."""
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask must be bool, True where x_0 is known, got {mask.dtype}; write mask > 0.5")
    fits = mask.dim() == x_0.dim() and all(m in (1, n) for m, n in zip(mask.shape[1:], x_0.shape[1:], strict=True))
    if not fits or (len(x_0) > 1 and len(mask) not in (1, len(x_0))):
        raise ValueError(f"a mask of shape {tuple(mask.shape)} does not broadcast with x_0 of {tuple(x_0.shape)}")

"""Energy guidance: towards what any differentiable score likes, asked of the prediction x_0_hat.

    log p(y | x_t) := score(x_0_hat(x_t), t)      with gradients through the denoiser, and a decoder where there is one

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix C ("image guiding"): super-resolution, colouring or
likeness to a picture by an unconditional model. The score of a picture in latent space decodes first:

    score = likeness(small_picture, lambda z: F.avg_pool2d(model.decode(z), 4), std=0.1)
    denoise = energy(denoise, model.denoiser.schedule, score)

For Gaussian data and a score linear in x_0 this is the exact posterior mean. `likeness` is exact there too, if `std`
says how uncertain x_0_hat itself is (`posterior_std`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from calotype.diffusion.guidance import Guided
from calotype.diffusion.schedule import Schedule, rows, wide
from calotype.diffusion.variance import Prediction, predictor
from calotype.diffusion.wrappers.tilt import check_scale, gradient, tilted
from calotype.types import Denoise, Image, Latent, Time

Score = Callable[[Latent, Time], Tensor]
"""(x_0_hat, t) -> log p(y_i | x_0_hat_i) up to a constant, one number per sample (B,)."""


def energy(denoise: Denoise, schedule: Schedule, score: Score, scale: float = 1.0) -> Denoise:
    """x_0 + scale sigma^2 / alpha grad_x_t score(x_0(x_t), t).

    Args:
        denoise: differentiable; about three times its cost. A guided one is differentiated through its guidance.
        schedule: of `denoise`.
        score: differentiable. A CLIP-like similarity is a score: larger is better.
        scale: factor of the score; 0 gives `denoise` back.

    Raises:
        UserError: a scale that is not finite.
    """
    check_scale(scale)
    if scale == 0:
        return denoise

    def predict(x_t: Tensor, t: Tensor) -> Prediction:
        with torch.enable_grad():
            x = x_t.detach().to(wide(x_t)).requires_grad_()
            x_0, v = predictor(denoise)(x, t)
            g = gradient(score(x_0, t), x)
        return Prediction(tilted(x_0.detach(), g, schedule, t, scale), None if v is None else v.detach())

    return Guided(predict)


def _itself(x: Tensor) -> Tensor:
    return x


def likeness(
    target: Image,
    measure: Callable[[Latent], Image] = _itself,
    std: float | Callable[[Time], Tensor] = 1.0,
) -> Score:
    """-|target - measure(x_0)|^2 / (2 std^2): a Gaussian observation. With std = 1 that of LDM, appendix C.

    Args:
        target: what was seen, (B, ...) or (1, ...).
        measure: T of the paper; decodes, makes small, takes the colour away, ...
        std: of what was seen, or a function of time (B,) -> (B,), such as `posterior_std`.

    Raises:
        ValueError: a std that is not positive; when called, a target that is not shaped like the measurement.
    """
    if not callable(std) and not std > 0:
        raise ValueError(f"std must be positive, got {std}")

    def score(x_0: Latent, t: Time) -> Tensor:
        seen = measure(x_0)
        if target.shape[1:] != seen.shape[1:] or len(target) not in (1, len(seen)):
            raise ValueError(f"the target is {tuple(target.shape)}, but what is measured is {tuple(seen.shape)}")
        width = std(t) if callable(std) else torch.full_like(t, std)
        return -((target.to(seen) - seen).square() / (2 * rows(width, seen) ** 2)).flatten(1).sum(1)

    return score


def closeness(
    target: Image, distance: Callable[[Image, Image], Tensor], measure: Callable[[Latent], Image] = _itself
) -> Score:
    """-distance(measure(x_0), target): a perceptual distance such as LPIPS, which LDM, appendix C, tries as well.

    Args:
        target: (B, ...) or (1, ...).
        distance: differentiable, two batches -> (B,) or (B, 1, 1, 1).
        measure: decodes, where x_0 is a latent.
    """

    def score(x_0: Latent, t: Time) -> Tensor:
        seen = measure(x_0)
        return -distance(seen, target.to(seen).expand_as(seen)).flatten(1 if seen.dim() > 1 else 0).reshape(len(seen))

    return score


def posterior_std(schedule: Schedule, seen: float, data: float = 1.0) -> Callable[[Time], Tensor]:
    """sqrt(seen^2 + Var[x_0 | x_t]): how far what was seen may lie from x_0_hat, growing with the noise.

    Exact for N(., data^2 I) data and measurements with orthonormal rows. Song et al. 2023 (pseudo-inverse guidance),
    https://openreview.net/forum?id=9_gsMA8MRKQ, section 3.2. It spares the search for a scale: with a constant std the
    early, vague predictions are pulled much too hard.

    Args:
        seen: standard deviation of the observation, at least 0.
        data: that of the clean data: 1 for latents.

    Returns:
        A function of time (B,) -> (B,) for `likeness`.
    """

    def std(t: Time) -> Tensor:
        alpha, sigma = schedule.at(t.double())
        variance = data**2 * sigma**2 / (alpha**2 * data**2 + sigma**2)
        return (seen**2 + variance).sqrt()

    return std

"""Classifier-free guidance: away from the prediction without a wish."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.condition import Condition, Routes
from calotype.diffusion.denoiser import ConditionalDenoise
from calotype.diffusion.guidance.base import Guidance, check_null, guidances
from calotype.diffusion.guidance.extrapolation import Extrapolation
from calotype.diffusion.variance import Prediction
from calotype.types import Denoise, Latent


@guidances.register("classifier_free")
@dataclass(frozen=True)
class ClassifierFree(Extrapolation, Guidance):
    """x_0 = x_null + scale (x_cond - x_null): Ho & Salimans 2022, https://arxiv.org/abs/2207.12598, with w = scale - 1.

    At every t the score is that of p_t(x) p_t(c | x)^scale. Args and errors are those of `Extrapolation`."""

    @property
    def asks_null(self) -> bool:
        """Unless the scale is 1."""
        return self.scale != 1

    def __call__(self, denoiser: ConditionalDenoise, cond: Condition, null: Condition) -> Denoise:
        """Both conditions in one batch, and only where guidance acts. Without any route, or where `null` is `cond`
        itself, there is nothing to contrast, and the prediction stays as it is. See `Guidance` for what is raised."""
        conditional = denoiser.bind(cond)

        def pair(x_t: Tensor, t: Tensor) -> tuple[Prediction, Latent]:
            x_0, v = denoiser.bind(cond.cat(null)).predict(torch.cat([x_t, x_t]), torch.cat([t, t]))
            x_cond, x_null = x_0.chunk(2)
            return Prediction(x_cond, None if v is None else v.chunk(2)[0]), x_null

        if self.scale != 1:
            check_null(cond, null)
        if null is cond or cond.routes == Routes():
            return self.extrapolated(denoiser.schedule, conditional, lambda x_t, t: _twice(conditional.predict(x_t, t)))
        return self.extrapolated(denoiser.schedule, conditional, pair)


def _twice(prediction: Prediction) -> tuple[Prediction, Latent]:
    return prediction, prediction.x_0

"""From a worse prediction through a better one, and beyond: what all guidance without gradients does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from calotype.diffusion.guidance.base import Guided, adjusted
from calotype.diffusion.guidance.threshold import DynamicThreshold
from calotype.diffusion.parameterization import X0, Parameterization
from calotype.diffusion.schedule import Schedule, rows
from calotype.diffusion.variance import Prediction, predictor
from calotype.errors import UserError
from calotype.types import Denoise, Latent, Time

Pair = Callable[[Latent, Time], tuple[Prediction, Latent]]
"""(x_t, t) -> the better prediction, and the worse x_0."""


@dataclass(frozen=True)
class Extrapolation:
    """x_0 = x_worse + scale (x_better - x_worse), and what may follow.

    Args:
        scale: 1 is no guidance, exactly and at half the cost; 0 ignores the better prediction.
        interval: guide only where log-SNR lies in [lowest, highest]: Kynkaanniemi et al. 2024,
            https://arxiv.org/abs/2404.07724; their sigma in (lo, hi] is log-SNR in [-2 log hi, -2 log lo).
        rescale: share, 0 to 1, by which each sample's standard deviation is brought back to that of x_better: Lin et
            al. 2023, https://arxiv.org/abs/2305.08891, eq. (15, 16). They suggest 0.7.
        rescale_of: the quantity whose standard deviation is meant: x_0, what the picture is made of. The paper takes
            the network's own output: `Velocity()` for its networks, `Epsilon()` for Stable Diffusion 1.
        threshold: what is done to every prediction at the end, guided or not; pixels only. See `DynamicThreshold`.

    Raises:
        UserError: a scale beyond 1000 or not finite, an empty interval, or a rescale outside [0, 1].
    """

    scale: float = 3.0
    interval: tuple[float, float] | None = None
    rescale: float = 0.0
    rescale_of: Parameterization = field(default_factory=X0)
    threshold: DynamicThreshold | None = None

    def __post_init__(self) -> None:
        if not -1000 <= self.scale <= 1000:
            raise UserError(f"scale must lie in -1000 ... 1000, got {self.scale}; 1 is no guidance, 3 to 8 is usual")
        if self.interval is not None and not self.interval[0] < self.interval[1]:
            raise UserError(f"interval must be (lowest, highest) log-SNR, got {self.interval}; swap or widen it")
        if not 0 <= self.rescale <= 1:
            raise UserError(f"rescale must lie in [0, 1], got {self.rescale}; 0 turns it off, 0.7 is usual")

    def extrapolated(self, schedule: Schedule, better: Denoise, pair: Pair) -> Denoise:
        """Ask `pair` where guidance acts on some sample of the batch, `better` alone where it does not.

        Raises `UserError` if `rescale_of` is not defined at the noisy end of the schedule."""
        if self.rescale:
            self._check_rescale_of(schedule)

        def predict(x_t: Tensor, t: Tensor) -> Prediction:
            acts = self._acts(schedule.logsnr(t))
            if not acts.any():
                return predictor(better)(x_t, t)
            (x_better, v), x_worse = pair(x_t, t)
            x_0 = torch.lerp(x_worse, x_better, self.scale)
            if self.rescale:
                x_0 = self._rescaled(schedule, x_0, x_better, x_t, t)
            return Prediction(torch.where(rows(acts, x_0).bool(), x_0, x_better), v)

        guided = better if self.scale == 1 else Guided(predict)
        threshold = self.threshold
        return guided if threshold is None else adjusted(guided, lambda x_0, x_t, t: threshold(x_0))

    def _acts(self, logsnr: Tensor) -> Tensor:
        if self.interval is None:
            return torch.ones_like(logsnr, dtype=torch.bool)
        lowest, highest = self.interval
        return (lowest <= logsnr) & (logsnr <= highest)

    def _check_rescale_of(self, schedule: Schedule) -> None:
        end = self.rescale_of.coefficients(*schedule.at(torch.ones(1, dtype=torch.float64)))
        if not end.c_skip.isfinite().all():
            raise UserError(
                f"rescale_of {type(self.rescale_of).__name__} is undefined at t = 1, where {schedule.curve} leaves no "
                "signal; rescale x0 or velocity"
            )

    def _rescaled(self, schedule: Schedule, x_0: Latent, x_better: Latent, x_t: Latent, t: Time) -> Latent:
        # F = (x_0 - c_skip x_t) / c_out, and one c_out per sample leaves the ratio of two standard deviations alone
        skip = rows(self.rescale_of.coefficients(*schedule.at(t)).c_skip, x_0) * x_t.to(x_0)
        f, f_better = x_0 - skip, x_better - skip
        ratio = f_better.flatten(1).std(1) / f.flatten(1).std(1).clamp(min=1e-12)
        return skip + f * rows(torch.lerp(torch.ones_like(ratio), ratio, self.rescale), f)

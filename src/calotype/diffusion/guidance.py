"""Guidance: a condition, made louder.

A guidance turns a denoiser and two conditions into a plain function (x_t, t) -> x_0. Predictions of x_0, eps and v are
linear in one another at fixed x_t, so what is said here about x_0 holds for all of them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from calotype.condition import Condition
from calotype.diffusion.denoiser import Denoiser
from calotype.diffusion.schedule import rows
from calotype.errors import UserError
from calotype.registry import Registry
from calotype.types import Denoise, Latent


class Guidance(Protocol):
    """How strongly a sample follows its condition."""

    @abstractmethod
    def __call__(self, denoiser: Denoiser, cond: Condition, null: Condition) -> Denoise:
        """(x_t, t) -> x_0 for the wishes `cond`; `null` (same routes, same B) is what "no wish" looks like."""


guidances: Registry[Guidance] = Registry("guidance")


@guidances.register("unguided")
@dataclass(frozen=True)
class Unguided(Guidance):
    """The conditional prediction as it is."""

    def __call__(self, denoiser: Denoiser, cond: Condition, null: Condition) -> Denoise:
        """`denoiser.bind(cond)`."""
        return denoiser.bind(cond)


@guidances.register("classifier_free")
@dataclass(frozen=True)
class ClassifierFree(Guidance):
    """x_0 = x_null + scale (x_cond - x_null): Ho & Salimans 2022, https://arxiv.org/abs/2207.12598, with w = scale - 1.

    Args:
        scale: 1 is no guidance, exactly and at half the cost; 0 ignores the condition.
        interval: guide only where log-SNR lies in [lowest, highest]: Kynkaanniemi et al. 2024,
            https://arxiv.org/abs/2404.07724; their sigma in (lo, hi] is log-SNR in [-2 log hi, -2 log lo).
        rescale: share, 0 to 1, by which each sample's standard deviation is brought back to that of x_cond: Lin et al.
            2023, https://arxiv.org/abs/2305.08891, eq. (15, 16), applied to x_0. They suggest 0.7.

    Raises:
        UserError: a scale beyond 1000, an empty interval, or a rescale outside [0, 1].
    """

    scale: float = 3.0
    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not -1000 <= self.scale <= 1000:
            raise UserError(f"scale must lie in -1000 ... 1000, got {self.scale}; 1 is no guidance, 3 to 8 is usual")
        if self.interval is not None and not self.interval[0] < self.interval[1]:
            raise UserError(f"interval must be (lowest, highest) log-SNR, got {self.interval}; swap or widen it")
        if not 0 <= self.rescale <= 1:
            raise UserError(f"rescale must lie in [0, 1], got {self.rescale}; 0 turns it off, 0.7 is usual")

    def __call__(self, denoiser: Denoiser, cond: Condition, null: Condition) -> Denoise:
        """Both conditions in one batch, and only where guidance acts."""
        conditional = denoiser.bind(cond)
        if self.scale == 1:
            return conditional
        both = denoiser.bind(cond.cat(null))

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            acts = self._acts(denoiser.schedule.logsnr(t))
            if not acts.any():
                return conditional(x_t, t)
            x_cond, x_null = both(torch.cat([x_t, x_t]), torch.cat([t, t])).chunk(2)
            x_0 = self._rescaled(torch.lerp(x_null, x_cond, self.scale), x_cond)
            return torch.where(rows(acts, x_0).bool(), x_0, x_cond)

        return denoise

    def _acts(self, logsnr: Tensor) -> Tensor:
        if self.interval is None:
            return torch.ones_like(logsnr, dtype=torch.bool)
        lowest, highest = self.interval
        return (lowest <= logsnr) & (logsnr <= highest)

    def _rescaled(self, x_0: Latent, x_cond: Latent) -> Latent:
        if self.rescale == 0:
            return x_0
        ratio = x_cond.flatten(1).std(1) / x_0.flatten(1).std(1).clamp(min=1e-12)
        return x_0 * rows(torch.lerp(torch.ones_like(ratio), ratio, self.rescale), x_0)

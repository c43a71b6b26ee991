"""The forward process: what is left of a sample at time t.

    x_t = alpha(t) x_0 + sigma(t) eps,    eps ~ N(0, I),    logsnr(t) = 2 log(alpha / sigma)

A `Schedule` is a curve (t -> log-SNR) and a path (log-SNR -> alpha, sigma). A shifted, truncated or tabulated noise
schedule is another curve; rectified flow is a curve (`Flow`) and a path (`LinearPath`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from calotype.diffusion.clock import Clock
from calotype.diffusion.curves import Cosine, Curve
from calotype.diffusion.path import Path, VariancePreserving
from calotype.errors import UserError
from calotype.types import Latent, Time


@dataclass(frozen=True)
class Schedule:
    """A curve and a path. Everything is computed in float64 and returned in the dtype that was given.

    Raises:
        UserError: alpha or sigma would be infinite at an end (variance exploding along a curve that ends without
            signal).
    """

    curve: Curve = field(default_factory=Cosine)
    path: Path = field(default_factory=VariancePreserving)

    def __post_init__(self) -> None:
        if not all(bool(v.isfinite().all()) for v in self.at(torch.tensor([0.0, 1.0]))):
            raise UserError(
                f"{self.path} needs infinitely much noise at t = 1, where {self.curve} leaves no signal; give the "
                "curve a finite noisy end, such as Clamped(curve, logsnr_min=-15), or take another path"
            )

    @property
    def clock(self) -> Clock:
        """How a network trained on this schedule is told the time."""
        return self.curve.clock

    def logsnr(self, t: Tensor) -> Tensor:
        """log-SNR at the times t (any shape, in [0, 1]); strictly decreasing, perhaps infinite at the ends."""
        return self.curve.logsnr(t.double()).to(t.dtype)

    def time(self, logsnr: Tensor) -> Tensor:
        """The time in [0, 1] at which log-SNR is this; beyond the ends, the ends."""
        return self.curve.time(logsnr.double()).to(logsnr.dtype)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at the times t (any shape), each of t's shape, dtype and device."""
        alpha, sigma = self.path(self.curve.logsnr(t.double()))
        return alpha.to(t.dtype), sigma.to(t.dtype)

    def perturb(self, x_0: Latent, eps: Latent, t: Time) -> Latent:
        """x_t = alpha(t) x_0 + sigma(t) eps for one time per sample, t (B,)."""
        alpha, sigma = self.at(t)
        return rows(alpha, x_0) * x_0 + rows(sigma, x_0) * eps


def rows(v: Tensor, x: Tensor) -> Tensor:
    """One number per sample, v (B,), as (B, 1, ..., 1) in the dtype and on the device of x (B, ...), to multiply it."""
    return v.to(x).view(-1, *[1] * (x.dim() - 1))


def wide(x: Tensor) -> torch.dtype:
    """The dtype to compute a prediction in: float32, or float64 if x is."""
    return torch.promote_types(x.dtype, torch.float32)

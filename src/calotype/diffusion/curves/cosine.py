"""The cosine schedule in continuous time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from calotype.diffusion.curves.base import Curve, curves
from calotype.errors import UserError


@curves.register("cosine")
@dataclass(frozen=True)
class Cosine(Curve):
    """Equal steps in the angle between signal and noise: alpha = cos(theta), sigma = sin(theta), theta linear in t.

        logsnr = -2 log tan(theta),    tan(theta) from exp(-logsnr_max / 2) at t = 0 to exp(-logsnr_min / 2) at t = 1

    Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672; truncated as in Hoogeboom et al. 2023,
    https://arxiv.org/abs/2301.11093. Open at both ends, uniform times visit log-SNR with density
    sech(logsnr / 2) / (2 pi). The table that Nichol & Dhariwal trained on is `CosineTable`.

    Args:
        logsnr_min, logsnr_max: the log-SNR at t = 1 and t = 0; `None` leaves that end open (exactly no signal, exactly
            no noise). An open noisy end needs a parameterization that is defined there (velocity, flow, EDM or x0).

    Raises:
        UserError: logsnr_min is not below logsnr_max.
    """

    logsnr_min: float | None = -15.0
    logsnr_max: float | None = 15.0

    def __post_init__(self) -> None:
        low, high = self._ends
        if not low < high:
            raise UserError(f"Cosine needs logsnr_min < logsnr_max, got {low} and {high}; swap or widen them")

    @property
    def _ends(self) -> tuple[float, float]:
        low = -math.inf if self.logsnr_min is None else self.logsnr_min
        high = math.inf if self.logsnr_max is None else self.logsnr_max
        return low, high

    def logsnr(self, t: Tensor) -> Tensor:
        """-2 log tan(theta(t)); written with theta and its complement so that both open ends are exactly infinite."""
        low, high = self._ends
        theta = _lerp(t, _angle(high), _angle(low))
        complement = _lerp(1 - t, _angle(-low), _angle(-high))
        return 2 * (complement.sin().log() - theta.sin().log())

    def time(self, logsnr: Tensor) -> Tensor:
        """(theta - theta(0)) / (theta(1) - theta(0))."""
        low, high = self._ends
        theta = (-logsnr / 2).exp().atan()
        return ((theta - _angle(high)) / (_angle(low) - _angle(high))).clamp(0, 1)


def _angle(logsnr: float) -> float:
    # exp overflows in Python (not in torch) beyond 709; the angle is pi/2 to the last bit long before
    return math.atan(math.exp(min(-logsnr / 2, 700.0)))


def _lerp(t: Tensor, start: float, end: float) -> Tensor:
    return start + t * (end - start)

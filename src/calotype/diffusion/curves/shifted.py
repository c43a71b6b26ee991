"""The same curve with more noise or less."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from calotype.diffusion.curves.base import Curve, CurveOver, curves
from calotype.diffusion.curves.cosine import Cosine
from calotype.errors import UserError


@curves.register("shifted")
@dataclass(frozen=True)
class Shifted(CurveOver):
    """logsnr = that of `curve` + shift; a negative shift is more noise.

    Three papers, one constant: larger pictures need more noise, since neighbouring pixels tell of one another.

        2 log(64 / side)     Hoogeboom et al. 2023, https://arxiv.org/abs/2301.11093, eq. (4)     `by_side`
        -2 log a             Esser et al. 2024, https://arxiv.org/abs/2403.03206, eq. (23)        `by_timestep`
        2 log b              Chen 2023, https://arxiv.org/abs/2301.10972                          `by_input_scale`

    The finite ends of a curve move with it: wrap the open curve, and the result in `Clamped`, to keep them in place.
    A network keeps its clock: at time t it is told t, and sees another noise level.

    Args:
        shift: in log-SNR; -1.386 for sides of 128, -2.773 for 256, -4.159 for 512, -5.545 for 1024 (against 64).

    Raises:
        UserError: shift is not finite.
    """

    curve: Curve = field(default_factory=Cosine)
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.shift):
            raise UserError(f"Shifted needs a finite shift in log-SNR, got {self.shift}; 2 log(64 / side) is usual")

    @classmethod
    def by_side(cls, curve: Curve, side: float, reference: float = 64) -> Shifted:
        """For samples of side x side (of the latent, where there is one; the root of height x width, where these
        differ), by a curve that suits reference x reference: averaging down to the reference leaves the same log-SNR.

        Raises `UserError` unless both are positive."""
        if not (side > 0 and reference > 0):
            raise UserError(
                f"a shift by size needs positive sides, got {side} and {reference}; count pixels or latents"
            )
        return cls(curve, 2 * math.log(reference / side))

    @classmethod
    def by_timestep(cls, curve: Curve, a: float) -> Shifted:
        """On `Flow` the same as replacing t by a t / (1 + (a - 1) t); a = sqrt(m / n) for pictures of m pixels by a
        curve that suits n, and 3 in the paper. Raises `UserError` unless a is positive."""
        if not a > 0:
            raise UserError(f"a timestep shift must be positive, got {a}; 1 changes nothing, 3 is usual")
        return cls(curve, -2 * math.log(a))

    @classmethod
    def by_input_scale(cls, curve: Curve, b: float) -> Shifted:
        """x_t = alpha b x_0 + sigma eps, divided by its standard deviation sqrt(b^2 alpha^2 + sigma^2) for data of unit
        variance: alpha and sigma of the variance preserving path keep their ratio but for b, and square to 1 again.

        Targets stay those of the unscaled x_0. Raises `UserError` unless b is positive."""
        if not b > 0:
            raise UserError(f"an input scale must be positive, got {b}; the paper uses 0.1 to 1")
        return cls(curve, 2 * math.log(b))

    def logsnr(self, t: Tensor) -> Tensor:
        """curve.logsnr(t) + shift."""
        return self.curve.logsnr(t) + self.shift

    def time(self, logsnr: Tensor) -> Tensor:
        """curve.time(logsnr - shift)."""
        return self.curve.time(logsnr - self.shift)


@curves.register("interpolated")
@dataclass(frozen=True)
class Interpolated(CurveOver):
    """logsnr = t L_low + (1 - t) L_high with L_r = curve.logsnr(t) + 2 log(r / side), that of `curve` shifted for r.

    Hoogeboom et al. 2023, https://arxiv.org/abs/2301.11093, eq. (6): at t = 1 the noise of a low reference resolution
    (all of the picture is drowned), at t = 0 that of a high one (details are left over to be refined), so a wider range
    of log-SNR than either. A network keeps its clock.

    Args:
        side: of the samples.
        low, high: reference sides, low <= high; 32 and 256 in the paper for 512 x 512.
        flipped: t and 1 - t exchanged. Transcriptions of the paper disagree: its appendix's code is the default here,
            its eq. (6) this; flipped, the range of log-SNR is narrower.

    Raises:
        UserError: low > high, a side that is not positive, or a flipped curve that is not decreasing any more.
    """

    curve: Curve = field(default_factory=Cosine)
    side: int = 512
    low: int = 32
    high: int = 256
    flipped: bool = False

    def __post_init__(self) -> None:
        if not (self.side > 0 and 0 < self.low <= self.high):
            raise UserError(
                f"Interpolated needs side > 0 and 0 < low <= high, got {self.side}, {self.low} and {self.high}; "
                "32 and 256 are usual for 512"
            )
        t = torch.linspace(0, 1, 10_001, dtype=torch.float64)
        if self.flipped and not bool((self.logsnr(t).diff() < 0).all()):
            raise UserError(
                f"flipped interpolation from {self.low} to {self.high} rises faster than {self.curve} falls, so one "
                "noise level would have two times; bring low and high closer together, or do not flip"
            )

    @property
    def _shifts(self) -> tuple[float, float]:
        """At t = 0 and t = 1."""
        low, high = 2 * math.log(self.low / self.side), 2 * math.log(self.high / self.side)
        return (low, high) if self.flipped else (high, low)

    def logsnr(self, t: Tensor) -> Tensor:
        """curve.logsnr(t) + lerp of the shifts."""
        start, end = self._shifts
        return self.curve.logsnr(t) + (start + t * (end - start))

    def time(self, logsnr: Tensor) -> Tensor:
        """By bisection, to the last bits: the sum has no inverse in closed form."""
        least, most = sorted(self._shifts)
        low, high = self.curve.time(logsnr - least), self.curve.time(logsnr - most)
        low, high = torch.minimum(low, high), torch.maximum(low, high)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.logsnr(middle) > logsnr
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (low + high) / 2

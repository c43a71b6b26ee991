"""A part of a curve."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from calotype.diffusion.clock import Clock
from calotype.diffusion.curves.base import Curve, curves
from calotype.diffusion.curves.cosine import Cosine
from calotype.errors import UserError


@curves.register("clamped")
@dataclass(frozen=True)
class Clamped(Curve):
    """The part of `curve` with log-SNR in [logsnr_min, logsnr_max], its times stretched linearly to [0, 1].

        logsnr(t) = curve.logsnr(t_0 + t (t_1 - t_0)),    t_0 = curve.time(logsnr_max),    t_1 = curve.time(logsnr_min)

    Strictly decreasing, which cutting the values off would not be; `Clamped(Cosine(None, None), -15, 15)` is
    `Cosine(-15, 15)`. The range is cut to what the curve offers. A network is told where on `curve` it is, so one that
    was trained on the whole of it can be used; what were entries of a table are none any more.

    Args:
        logsnr_min, logsnr_max: `None` leaves that end as it is.

    Raises:
        UserError: nothing of the curve lies in the range.
    """

    curve: Curve = field(default_factory=lambda: Cosine(None, None))
    logsnr_min: float | None = -15.0
    logsnr_max: float | None = 15.0

    def __post_init__(self) -> None:
        start, end = self._times
        if not start < end:
            raise UserError(
                f"nothing of {self.curve} lies in log-SNR {self.logsnr_min} to {self.logsnr_max}; "
                "choose a range that overlaps it, the smaller number first"
            )

    @cached_property
    def _times(self) -> tuple[float, float]:
        """t_0 and t_1."""
        high = math.inf if self.logsnr_max is None else self.logsnr_max
        low = -math.inf if self.logsnr_min is None else self.logsnr_min
        start, end = self.curve.time(torch.tensor([high, low], dtype=torch.float64)).tolist()
        return start, end

    @property
    def clock(self) -> Clock:
        """The reading of the curve inside, at the stretched time."""
        (start, end), inside = self._times, self.curve.clock
        return Clock(inside.scale * (end - start), inside.scale * start + inside.offset)

    def logsnr(self, t: Tensor) -> Tensor:
        """curve.logsnr at the stretched time; its own ends exactly, where it keeps them."""
        start, end = (torch.full_like(t, v) for v in self._times)
        return self.curve.logsnr(torch.lerp(start, end, t))

    def time(self, logsnr: Tensor) -> Tensor:
        """(curve.time(logsnr) - t_0) / (t_1 - t_0)."""
        start, end = self._times
        return ((self.curve.time(logsnr) - start) / (end - start)).clamp(0, 1)

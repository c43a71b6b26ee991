"""What a curve is: a strictly decreasing map t -> log-SNR."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from calotype.diffusion.clock import Clock
from calotype.registry import Registry


class Curve(ABC):
    """A strictly decreasing, invertible map from time to log-SNR.

    Any density p of log-SNR is a curve, t = 1 - CDF(logsnr): uniform times then visit noise levels by that density.
    """

    @abstractmethod
    def logsnr(self, t: Tensor) -> Tensor:
        """log-SNR at the times t (any shape, in [0, 1])."""

    @abstractmethod
    def time(self, logsnr: Tensor) -> Tensor:
        """The inverse: the time in [0, 1] of this log-SNR; values beyond the ends give the ends."""

    def slope(self, t: Tensor) -> Tensor:
        """d logsnr / dt at the times t (any shape, in [0, 1]), of their dtype; negative, infinite at an open end.

        1 / |slope| is the density of log-SNR there under uniform times. On a table it is constant in d log abar / dt
        between entries, and at an entry one of its two sides.
        """
        # exact by differentiating the formula itself: no second formula per curve that could disagree with the first
        with torch.inference_mode(False), torch.enable_grad():
            at = t.detach().double().clone().requires_grad_()
            logsnr = self.logsnr(at)
            (slope,) = torch.autograd.grad(logsnr.sum(), at)
        # at an open end a formula's derivative may be 0 / 0, or of the wrong sign for want of a sign of zero
        return torch.where(logsnr.isinf(), -math.inf, slope).to(t.dtype)

    @property
    def entries(self) -> int | None:
        """T where entry i of a table of T betas lies at t = (i + 1) / T; None where the curve has no such entries."""
        return None

    @property
    def clock(self) -> Clock:
        """How a network trained on this curve is told the time, unless somebody says otherwise: 1000 t, or the index
        of a table."""
        return Clock() if self.entries is None else Clock(scale=float(self.entries), offset=-1.0)


class CurveOver(Curve):
    """A curve made of another one: entries and clock stay as they were."""

    curve: Curve

    @property
    def entries(self) -> int | None:
        """Those of the curve inside."""
        return self.curve.entries

    @property
    def clock(self) -> Clock:
        """That of the curve inside."""
        return self.curve.clock


curves: Registry[Curve] = Registry("curve", "calotype.diffusion.curves")

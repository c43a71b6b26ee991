"""Curves that are tables of betas."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from calotype.diffusion.curves.base import Curve


class Tabulated(Curve):
    """A table of T betas, as DDPM and Stable Diffusion define their noise: abar_i = prod_{j <= i} (1 - beta_j).

    Entry i (0-based) lies at t = (i + 1) / T and t = 0 is the clean sample, so `n` uniform steps from t = 1 visit
    "trailing" indices (999, 979, ... for n = 50). Between entries log abar is linear in t, i.e. beta(t) is piecewise
    constant: the one interpolation that is exact at t = 0, strictly decreasing, and invertible in closed form.
    """

    @abstractmethod
    def betas(self) -> Tensor:
        """(T,) float64, each in (0, 1)."""

    @property
    def entries(self) -> int:
        """T."""
        return len(self._log_abar) - 1

    @cached_property
    def _log_abar(self) -> Tensor:
        """(T + 1,) float64: log abar at t = 0, 1/T, ..., 1."""
        steps = torch.log1p(-self.betas())
        return torch.cat([steps.new_zeros(1), steps.cumsum(0)])

    def log_abar(self, t: Tensor) -> Tensor:
        """log abar = 2 log alpha (on the variance preserving path) at the times t (any shape, in [0, 1])."""
        table = self._log_abar.to(t)
        position = t.clamp(0, 1) * (len(table) - 1)
        i = position.long().clamp(max=len(table) - 2)
        return torch.lerp(table[i], table[i + 1], position - i)

    def time_of(self, log_abar: Tensor) -> Tensor:
        """The inverse of `log_abar`; values beyond the ends give the ends."""
        table = self._log_abar.to(log_abar)
        log_abar = log_abar.clamp(min=table[-1])
        i = torch.searchsorted(-table, -log_abar.contiguous()).clamp(1, len(table) - 1) - 1
        return (i + (log_abar - table[i]) / (table[i + 1] - table[i])) / (len(table) - 1)

    def logsnr(self, t: Tensor) -> Tensor:
        """log(abar / (1 - abar)), written with expm1 because abar is close to 1 near t = 0."""
        log_abar = self.log_abar(t)
        # - log expm1(-log abar), but an abar of e^-800 does not overflow
        return log_abar - (-torch.expm1(log_abar)).log()

    def time(self, logsnr: Tensor) -> Tensor:
        """Linear interpolation of t in log abar = log sigmoid(logsnr)."""
        return self.time_of(logsigmoid(logsnr))

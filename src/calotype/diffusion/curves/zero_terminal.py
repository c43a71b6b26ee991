"""Tables that end in pure noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from calotype.diffusion.curves.base import CurveOver, curves
from calotype.diffusion.curves.betas import ScaledLinear
from calotype.diffusion.curves.tabulated import Tabulated
from calotype.errors import UserError


@curves.register("zero_terminal")
@dataclass(frozen=True)
class ZeroTerminal(CurveOver):
    """sqrt(abar) <- (sqrt(abar) - r_T) r_1 / (r_1 - r_T), with r_1 and r_T its first and last entry in the table.

    Lin et al. 2023, https://arxiv.org/abs/2305.08891, algorithm 1; diffusers' `rescale_betas_zero_snr`. The first entry
    stays, the last has exactly no signal: predict velocity or x0 (eps says nothing there), begin sampling at t = 1 (the
    grids "uniform" or "trailing"). Before the first entry, where no network was trained, the table is left as it is.

    Args:
        curve: a table.

    Raises:
        UserError: curve is not a table.
    """

    curve: Tabulated = field(default_factory=ScaledLinear)

    def __post_init__(self) -> None:
        if not isinstance(self.curve, Tabulated):
            raise UserError(
                f"ZeroTerminal rescales a table of betas, got {self.curve}; a continuous curve is opened at its noisy "
                "end instead, such as Cosine(logsnr_min=None)"
            )

    def _map(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """r_T, the factor, and the log-SNR of the first entry, in the dtype and on the device of t."""
        ends = t.new_tensor([1 / self.curve.entries, 1.0])
        first, last = (self.curve.log_abar(ends) / 2).exp()
        return last, first / (first - last), self.curve.logsnr(ends[0])

    def logsnr(self, t: Tensor) -> Tensor:
        """2 log r - log(1 - r^2) for the rescaled r = sqrt(abar); -infinity at t = 1."""
        last, factor, _ = self._map(t)
        r = ((self.curve.log_abar(t) / 2).exp() - last) * factor
        rescaled = torch.where(t < 1, 2 * r.log() - torch.log1p(-(r**2)), -math.inf)
        return torch.where(t * self.curve.entries <= 1, self.curve.logsnr(t), rescaled)

    def time(self, logsnr: Tensor) -> Tensor:
        """The table's inverse at r / factor + r_T."""
        last, factor, first = self._map(logsnr)
        log_abar = 2 * ((logsigmoid(logsnr) / 2).exp() / factor + last).log()
        return torch.where(logsnr >= first, self.curve.time(logsnr), self.curve.time_of(log_abar))

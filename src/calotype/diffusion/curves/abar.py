"""Curves defined by abar = alpha^2 / (alpha^2 + sigma^2), often called gamma(t), in continuous time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from calotype.diffusion.curves.base import Curve, curves
from calotype.errors import UserError


@curves.register("abar_linear")
@dataclass(frozen=True)
class AbarLinear(Curve):
    """abar = 1 - t, so logsnr = log((1 - t) / t): Chen 2023, https://arxiv.org/abs/2301.10972. Open at both ends.

    Meant to be combined with that paper's input scaling, `Shifted.by_input_scale`."""

    def logsnr(self, t: Tensor) -> Tensor:
        """log((1 - t) / t)."""
        return (1 - t).log() - t.log()

    def time(self, logsnr: Tensor) -> Tensor:
        """sigmoid(-logsnr)."""
        return (-logsnr).sigmoid()


@curves.register("abar_sigmoid")
@dataclass(frozen=True)
class AbarSigmoid(Curve):
    """abar = (S(end) - S(v)) / (S(end) - S(start)),    S(x) = sigmoid(x / tau),    v = start + t (end - start)

    Jabri et al. 2022, https://arxiv.org/abs/2212.11972; Chen 2023, https://arxiv.org/abs/2301.10972. A sigmoid of abar;
    the sigmoid of betas (GeoDiff, diffusers' "sigmoid") is `BetaSigmoid`. Open at both ends: the papers' code clips
    abar at 1e-9, which is `Clamped(AbarSigmoid(), logsnr_min=-20.7)`. For tau -> infinity it becomes `AbarLinear`.

    Args:
        start, end: the piece of the sigmoid that is used.
        tau: larger is closer to linear; the papers use 0.9, 1.0 and 1.1.

    Raises:
        UserError: start is not below end, tau is not positive, or (end - start) / tau exceeds 100.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        if not (self.tau > 0 and 0 < (self.end - self.start) / self.tau <= 100):
            raise UserError(
                f"AbarSigmoid needs start < end, tau > 0 and (end - start) / tau <= 100, got {self.start}, {self.end} "
                f"and {self.tau}; the papers use -3, 3 and about 1"
            )

    # With S(a) - S(b) = sinh((a - b) / 2 tau) / (2 cosh(a / 2 tau) cosh(b / 2 tau)) and D = (end - start) / tau, the
    # ratio abar / (1 - abar) is sinh((1 - t) D / 2) / sinh(t D / 2) times a constant: no difference of nearly equal
    # numbers, and both ends are exactly infinite.

    @property
    def _width(self) -> float:
        return (self.end - self.start) / self.tau

    @property
    def _log_constant(self) -> float:
        return _log_cosh(self.start / self.tau / 2) - _log_cosh(self.end / self.tau / 2)

    def logsnr(self, t: Tensor) -> Tensor:
        """log sinh((1 - t) D / 2) - log sinh(t D / 2) + log cosh(start / 2 tau) - log cosh(end / 2 tau)."""
        return _log_sinh((1 - t) * self._width / 2) - _log_sinh(t * self._width / 2) + self._log_constant

    def time(self, logsnr: Tensor) -> Tensor:
        """t D = log(R + e^(D / 2)) - log(R + e^(-D / 2)) with R = snr cosh(end / 2 tau) / cosh(start / 2 tau)."""
        log_r = logsnr.clamp(-1e6, 1e6) - self._log_constant  # infinities would meet as inf - inf
        half = torch.full_like(log_r, self._width / 2)
        return ((torch.logaddexp(log_r, half) - torch.logaddexp(log_r, -half)) / self._width).clamp(0, 1)


def _log_sinh(x: Tensor) -> Tensor:
    return x + (-torch.expm1(-2 * x) / 2).log()


def _log_cosh(x: float) -> float:
    return abs(x) + math.log1p(math.exp(-2 * abs(x))) - math.log(2)


@curves.register("vp_sde")
@dataclass(frozen=True)
class VPSDE(Curve):
    """abar = exp(-B(t)),    B = beta_d t^2 / 2 + beta_min t,    logsnr = -log(exp(B) - 1)

    Song et al. 2021, https://arxiv.org/abs/2011.13456, appendix B, with beta(t) from beta_min to beta_min + beta_d; the
    limit of `Linear` for many steps. beta_d = 0 gives abar = exp(-beta_min t): diffusers' "exp" with 12. Open at the
    clean end.

    Raises:
        UserError: a negative beta, no noise at all, or so much that B(1) exceeds 1000.
    """

    beta_d: float = 19.9
    beta_min: float = 0.1

    def __post_init__(self) -> None:
        if not (self.beta_d >= 0 and self.beta_min >= 0 and 0 < self._total <= 1000):
            raise UserError(
                f"VPSDE needs beta_d >= 0, beta_min >= 0 and 0 < beta_d / 2 + beta_min <= 1000, got {self.beta_d} and "
                f"{self.beta_min}; the paper uses 19.9 and 0.1"
            )

    @property
    def _total(self) -> float:
        return self.beta_d / 2 + self.beta_min

    def logsnr(self, t: Tensor) -> Tensor:
        """-B - log(1 - exp(-B))."""
        b = (self.beta_d / 2 * t + self.beta_min) * t
        return -b - (-torch.expm1(-b)).log()

    def time(self, logsnr: Tensor) -> Tensor:
        """The positive root of B(t) = log(1 + exp(-logsnr))."""
        b = (-logsigmoid(logsnr)).clamp(max=self._total)
        root = (self.beta_min**2 + 2 * self.beta_d * b).sqrt()
        # 2 b / (beta_min + root) is the root without cancellation; 0 / 0 only where beta_min = 0 = b
        t = torch.where(b > 0, 2 * b / (self.beta_min + root), 0.0)
        return torch.where(b < self._total, t, 1.0)

"""Curves made of a density of log-SNR that uniform times shall visit: logsnr(t) is its quantile at 1 - t."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.diffusion.curves.base import Curve, curves
from calotype.errors import UserError


@curves.register("log_linear")
@dataclass(frozen=True)
class LogLinear(Curve):
    """logsnr from logsnr_max to logsnr_min in equal steps: every noise level as often as any other.

    With `VarianceExploding` this is Song et al. 2021, https://arxiv.org/abs/2011.13456, appendix C: sigma in geometric
    progression, from sigma_min = exp(-logsnr_max / 2) to sigma_max = exp(-logsnr_min / 2).

    Raises:
        UserError: logsnr_min is not below logsnr_max, or either is infinite.
    """

    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def __post_init__(self) -> None:
        if not -math.inf < self.logsnr_min < self.logsnr_max < math.inf:
            raise UserError(
                f"LogLinear needs finite logsnr_min < logsnr_max, got {self.logsnr_min} and {self.logsnr_max}; "
                "-15 and 15 leave out nothing that can be seen"
            )

    def logsnr(self, t: Tensor) -> Tensor:
        """logsnr_max + t (logsnr_min - logsnr_max)."""
        return self.logsnr_max + t * (self.logsnr_min - self.logsnr_max)

    def time(self, logsnr: Tensor) -> Tensor:
        """(logsnr_max - logsnr) / (logsnr_max - logsnr_min)."""
        return ((self.logsnr_max - logsnr) / (self.logsnr_max - self.logsnr_min)).clamp(0, 1)


@curves.register("flow")
@dataclass(frozen=True)
class Flow(Curve):
    """logsnr = 2 log((1 - t) / t), so alpha = 1 - t and sigma = t on `LinearPath`: Liu et al. 2023 (rectified flow),
    https://arxiv.org/abs/2209.03003; Lipman et al. 2023, https://arxiv.org/abs/2210.02747. Open at both ends."""

    def logsnr(self, t: Tensor) -> Tensor:
        """2 log((1 - t) / t)."""
        return 2 * ((1 - t).log() - t.log())

    def time(self, logsnr: Tensor) -> Tensor:
        """sigmoid(-logsnr / 2)."""
        return (-logsnr / 2).sigmoid()


@curves.register("laplace")
@dataclass(frozen=True)
class Laplace(Curve):
    """logsnr = mu - b sgn(1/2 - t) log(1 - 2 |t - 1/2|), of density exp(-|logsnr - mu| / b) / (2 b).

    Hang et al. 2024, https://arxiv.org/abs/2407.03297: training is concentrated on medium noise, sampling keeps the
    levels of a cosine (the grid `CurveGrid`). diffusers' "laplace" takes the square root of abar where abar is meant,
    and so is another schedule. Open at both ends.

    Args:
        mu: the log-SNR that is visited most.
        b: how far around it; 0.5 for 256 x 256 in the paper, 0.75 for 512 x 512.

    Raises:
        UserError: b is not positive, or mu is not finite.
    """

    mu: float = 0.0
    b: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.b < math.inf and math.isfinite(self.mu)):
            raise UserError(f"Laplace needs b > 0 and a finite mu, got b = {self.b} and mu = {self.mu}; try 0.5 and 0")

    def logsnr(self, t: Tensor) -> Tensor:
        """mu - b log(2 t) for t below 1/2, mu + b log(2 (1 - t)) above."""
        return self.mu + self.b * torch.where(t < 0.5, -(2 * t).log(), (2 - 2 * t).log())

    def time(self, logsnr: Tensor) -> Tensor:
        """exp(-|z|) / 2 for z = (logsnr - mu) / b above 0, 1 minus that below."""
        z = (logsnr - self.mu) / self.b
        tail = (-z.abs()).exp() / 2
        return torch.where(z > 0, tail, 1 - tail)


@curves.register("log_normal")
@dataclass(frozen=True)
class LogNormal(Curve):
    """log(sigma_data sigma / alpha) ~ N(mean, std^2):    logsnr = -2 (mean + std ndtri(t) - log sigma_data)

    Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1: the density of noise levels in training (their
    sampling uses the grid `Karras`). Open at both ends.

    Args:
        mean, std: P_mean and P_std of the paper.
        sigma_data: the standard deviation of the paper's data for every 1 of ours. 0.5 for data of unit variance, as
            latents are; 1 for the paper's own, pixels in [-1, 1].

    Raises:
        UserError: std or sigma_data is not positive, or mean is not finite.
    """

    mean: float = -1.2
    std: float = 1.2
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.std < math.inf and 0 < self.sigma_data < math.inf and math.isfinite(self.mean)):
            raise UserError(
                f"LogNormal needs std > 0, sigma_data > 0 and a finite mean, got {self.std}, {self.sigma_data} and "
                f"{self.mean}; the paper uses 1.2, 0.5 and -1.2"
            )

    @property
    def _middle(self) -> float:
        return 2 * (math.log(self.sigma_data) - self.mean)

    def logsnr(self, t: Tensor) -> Tensor:
        """2 (log sigma_data - mean) - 2 std ndtri(t)."""
        quantile: Tensor = torch.special.ndtri(t)
        return self._middle - 2 * self.std * quantile

    def time(self, logsnr: Tensor) -> Tensor:
        """ndtr((2 (log sigma_data - mean) - logsnr) / (2 std))."""
        t: Tensor = torch.special.ndtr((self._middle - logsnr) / (2 * self.std))
        return t

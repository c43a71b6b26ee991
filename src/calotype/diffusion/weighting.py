"""How much an error at each noise level counts.

A weighting is a statement about the error of one quantity, whatever the network predicts. Errors convert linearly at
fixed x_t: with d_x the error of x_0 and d_F that of the network's output,

    d_x = c_out d_F,    d_eps = (alpha / sigma) d_x,    d_v = ((alpha^2 + sigma^2) / sigma) d_x,
    d_u = ((alpha + sigma) / sigma) d_x for u = eps - x_0

so the same weighting gives the same loss under every parameterization. SNR = alpha^2 / sigma^2. Each is written once,
for |d_x|^2, where it stays finite without signal; with it the multipliers on |d_eps|^2 that papers state:

    epsilon     1                                   min_snr         min(SNR, gamma) / SNR
    x0          1 / SNR                             soft_min_snr    gamma / (SNR + gamma)
    velocity    (alpha^2 + sigma^2)^2 / alpha^2     truncated_snr   max(SNR, 1) / SNR
    flow        (alpha + sigma)^2 / alpha^2         p2              1 / (k + SNR)^gamma
    edm         1 + 1 / (SNR sigma_data^2)          sigmoid         sigmoid(bias - logsnr) |d logsnr / dt|

What counts in the end is the product with the density p of log-SNR that the curve and the time sampler draw: the loss
is the integral of m(logsnr) p(logsnr) |d_eps|^2, so a density may be exchanged for a weight: Kingma & Gao 2023,
https://arxiv.org/abs/2303.00848, section 3.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from calotype.diffusion.curves import Cosine, Curve
from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.registry import Registry


class Weighting(Protocol):
    """The multiplier on the squared error of the network's output."""

    @abstractmethod
    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The multiplier on |d_x|^2, of the shape of alpha and sigma > 0; finite where alpha = 0."""

    def __call__(self, alpha: Tensor, sigma: Tensor, c_out: Tensor) -> Tensor:
        """The multiplier on |d_F|^2, of the shape of alpha, sigma > 0 and c_out (see `Coefficients`)."""
        return self.on_x_0(alpha, sigma) * c_out**2

    def check(self, schedule: Schedule) -> None:
        """Raise `UserError` if this is made for another schedule; any will do unless a member says so."""
        return None


weightings: Registry[Weighting] = Registry("weighting")


@weightings.register("epsilon")
@dataclass(frozen=True)
class UniformEpsilon(Weighting):
    """|d_eps|^2, the "simple" loss: Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (14)."""

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """SNR."""
        return (alpha / sigma) ** 2


@weightings.register("x0")
@dataclass(frozen=True)
class UniformX0(Weighting):
    """|d_x|^2: Salimans & Ho 2022, https://arxiv.org/abs/2202.00512, section 4."""

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(alpha)


@weightings.register("velocity")
@dataclass(frozen=True)
class UniformVelocity(Weighting):
    """|d_v|^2: Salimans & Ho 2022, https://arxiv.org/abs/2202.00512 ("SNR + 1" weighting of the x_0 error)."""

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """((alpha^2 + sigma^2) / sigma)^2."""
        return ((alpha**2 + sigma**2) / sigma) ** 2


@weightings.register("flow")
@dataclass(frozen=True)
class UniformFlow(Weighting):
    """|d_u|^2 for u = eps - x_0: Liu et al. 2023, https://arxiv.org/abs/2209.03003, eq. (1)."""

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """((alpha + sigma) / sigma)^2."""
        return ((alpha + sigma) / sigma) ** 2


@weightings.register("edm")
@dataclass(frozen=True)
class UniformEDM(Weighting):
    """|d_F|^2 for the F of `EDM` with the same sigma_data: Karras et al. 2022, https://arxiv.org/abs/2206.00364, table
    1.

    Raises:
        UserError: sigma_data is not positive.
    """

    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < math.inf:
            raise UserError(f"UniformEDM needs sigma_data > 0, got {self.sigma_data}; 1 for latents, 0.5 for pixels")

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """SNR + 1 / sigma_data^2, which is (sigma^2 + s^2) / (sigma s)^2 in the paper's sigma (ours by alpha)."""
        return (alpha / sigma) ** 2 + self.sigma_data**-2


@weightings.register("min_snr")
@dataclass(frozen=True)
class MinSNR(Weighting):
    """min(SNR, gamma) |d_x|^2: Hang et al. 2023, https://arxiv.org/abs/2303.09556.

    Bounded under every parameterization; exactly zero where alpha = 0, so a schedule that ends in pure noise gets no
    training signal at that end.

    Raises:
        UserError: gamma is not positive.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise UserError(f"MinSNR needs gamma > 0, got {self.gamma}; the paper uses 5")

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """min(alpha^2 / sigma^2, gamma)."""
        return ((alpha / sigma) ** 2).clamp(max=self.gamma)


@weightings.register("soft_min_snr")
@dataclass(frozen=True)
class SoftMinSNR(Weighting):
    """gamma SNR / (SNR + gamma) |d_x|^2, a smooth min(SNR, gamma): Crowson et al. 2024 (HDiT),
    https://arxiv.org/abs/2401.11605. Zero where alpha = 0.

    Args:
        gamma: 1 / sigma_data^2 of the paper, 4 for its pixels.

    Raises:
        UserError: gamma is not positive.
    """

    gamma: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise UserError(f"SoftMinSNR needs gamma > 0, got {self.gamma}; the paper uses 4")

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """alpha^2 / (sigma^2 + alpha^2 / gamma)."""
        return alpha**2 / (sigma**2 + alpha**2 / self.gamma)


@weightings.register("truncated_snr")
@dataclass(frozen=True)
class TruncatedSNR(Weighting):
    """max(SNR, 1) |d_x|^2, the larger of the errors of x_0 and eps: Salimans & Ho 2022,
    https://arxiv.org/abs/2202.00512, section 4."""

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """max(alpha^2 / sigma^2, 1)."""
        return ((alpha / sigma) ** 2).clamp(min=1)


@weightings.register("p2")
@dataclass(frozen=True)
class P2(Weighting):
    """|d_eps|^2 / (k + SNR)^gamma: Choi et al. 2022, https://arxiv.org/abs/2204.00227, eq. (8). Less weight where only
    the finest noise is left to remove. gamma = 0 is `UniformEpsilon`; zero where alpha = 0.

    Args:
        k: 1 in the paper.
        gamma: 1 in the paper; 0.5 is used, too.

    Raises:
        UserError: k is not positive, or gamma is negative.
    """

    k: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.k < math.inf and 0 <= self.gamma < math.inf):
            raise UserError(f"P2 needs k > 0 and gamma >= 0, got {self.k} and {self.gamma}; the paper uses 1 and 1")

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """SNR / (k + SNR)^gamma."""
        snr = (alpha / sigma) ** 2
        return snr / (self.k + snr) ** self.gamma


@weightings.register("sigmoid")
@dataclass(frozen=True)
class Sigmoid(Weighting):
    """The integral of sigmoid(bias - logsnr) |d_eps|^2 over log-SNR (times 1/2 is the paper's), for uniform times:

        sigmoid(bias - logsnr) |d logsnr / dt| |d_eps|^2

    Kingma & Gao 2023, https://arxiv.org/abs/2303.00848, eq. (10). Monotonic in time, so still a bound of the likelihood
    of noisy data. Zero where alpha = 0.

    Args:
        bias: log-SNR beyond which details stop to count; about 2 in the paper. Data that need a shifted curve
            (`Shifted`) need a bias shifted by as much.
        curve: that of the schedule that is trained on, whose slope turns a mean over t into the integral.

    Raises:
        UserError: bias is not finite.
    """

    bias: float = 2.0
    curve: Curve = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        if not math.isfinite(self.bias):
            raise UserError(f"Sigmoid needs a finite bias in log-SNR, got {self.bias}; -3 to 2 is usual")

    def check(self, schedule: Schedule) -> None:
        """The schedule's curve must be `curve`: another one's slope would weigh by the ratio of the two densities."""
        if schedule.curve != self.curve:
            raise UserError(
                f"the sigmoid weighting integrates along {self.curve}, but the schedule is {schedule.curve}; give it "
                "the same curve (objective.weighting.curve)"
            )

    def on_x_0(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """SNR sigmoid(bias - logsnr) |slope| at the time of that log-SNR."""
        snr = (alpha.double() / sigma.double()) ** 2
        logsnr = snr.log()
        slope = self.curve.slope(self.curve.time(logsnr))
        weight = snr * (self.bias - logsnr).sigmoid() * slope.abs()
        # at alpha = 0 an infinite slope meets SNR = 0
        return torch.where(snr > 0, weight, 0.0).to(alpha.dtype)

"""What the network's output F means: one line of linear algebra.

    x_0 = c_skip x_t + c_out F(c_in x_t)

for any (alpha, sigma), not only alpha^2 + sigma^2 = 1. Nobody but `Denoiser` needs to know which one is in use.

    x0          0                          1                          defined everywhere
    epsilon     1 / alpha                  -sigma / alpha             not where alpha = 0: `Denoiser` refuses it there
    mixed       see `Mixed`                -share sigma / alpha       as epsilon
    velocity    alpha / (alpha^2+sigma^2)  -sigma / (alpha^2+sigma^2) everywhere
    flow        1 / (alpha + sigma)        -sigma / (alpha + sigma)   everywhere
    edm         alpha s^2 / d^2            sigma s / d                everywhere; d^2 = sigma^2 + alpha^2 s^2
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from calotype.errors import UserError
from calotype.registry import Registry
from calotype.types import Latent


class Coefficients(NamedTuple):
    """x_0 = c_skip x_t + c_out F(c_in x_t); each of the shape of alpha and sigma."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


class Parameterization(Protocol):
    """What the network predicts."""

    @abstractmethod
    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """How to read the network's output as x_0, at noise amplitudes of any shape."""

    @abstractmethod
    def target(self, x_0: Latent, eps: Latent, alpha: Tensor, sigma: Tensor) -> Latent:
        """What F should have been for x_t = alpha x_0 + sigma eps; alpha and sigma broadcast with x_0.

        The same statement as `coefficients`, solved for F without dividing by sigma."""


parameterizations: Registry[Parameterization] = Registry("parameterization")


@parameterizations.register("x0")
@dataclass(frozen=True)
class X0(Parameterization):
    """F = x_0, the clean sample. Defined everywhere."""

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """(0, 1, 1)."""
        one = torch.ones_like(alpha)
        return Coefficients(torch.zeros_like(alpha), one, one)

    def target(self, x_0: Latent, eps: Latent, alpha: Tensor, sigma: Tensor) -> Latent:
        """x_0."""
        return x_0


@parameterizations.register("epsilon")
@dataclass(frozen=True)
class Epsilon(Parameterization):
    """F = eps, the noise: x_0 = (x_t - sigma eps) / alpha. Undefined where alpha = 0.

    Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (11)."""

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """(1, -sigma, .) / alpha; infinite at alpha = 0."""
        return Coefficients(1 / alpha, -sigma / alpha, torch.ones_like(alpha))

    def target(self, x_0: Latent, eps: Latent, alpha: Tensor, sigma: Tensor) -> Latent:
        """eps."""
        return eps


@parameterizations.register("velocity")
@dataclass(frozen=True)
class Velocity(Parameterization):
    """F = v = alpha eps - sigma x_0, so x_0 = (alpha x_t - sigma v) / (alpha^2 + sigma^2). Defined everywhere.

    Salimans & Ho 2022, https://arxiv.org/abs/2202.00512, appendix D."""

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """(alpha, -sigma, .) / (alpha^2 + sigma^2)."""
        power = alpha**2 + sigma**2
        return Coefficients(alpha / power, -sigma / power, torch.ones_like(alpha))

    def target(self, x_0: Latent, eps: Latent, alpha: Tensor, sigma: Tensor) -> Latent:
        """alpha eps - sigma x_0."""
        return alpha * eps - sigma * x_0


@parameterizations.register("flow")
@dataclass(frozen=True)
class FlowVelocity(Parameterization):
    """F = u = eps - x_0, so x_0 = (x_t - sigma u) / (alpha + sigma). Defined everywhere.

    dx_t / dt on `LinearPath` with the curve `Flow`: Liu et al. 2023, https://arxiv.org/abs/2209.03003, eq. (1), with
    time the other way round."""

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """(1, -sigma, .) / (alpha + sigma)."""
        total = alpha + sigma
        return Coefficients(1 / total, -sigma / total, torch.ones_like(alpha))

    def target(self, x_0: Latent, eps: Latent, alpha: Tensor, sigma: Tensor) -> Latent:
        """eps - x_0."""
        return eps - x_0


@parameterizations.register("edm")
@dataclass(frozen=True)
class EDM(Parameterization):
    """F = (sigma x_0 - alpha s^2 eps) / (s d) with d^2 = sigma^2 + alpha^2 s^2: for data of standard deviation s both
    input and target have unit variance, and errors of F are amplified as little as can be. Defined everywhere.

    Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1, where alpha = 1; only sigma / alpha matters. On the
    variance preserving path with s = 1 it is velocity with the sign changed.

    Args:
        sigma_data: s; 1 for normalised latents, about 0.5 for pixels in [-1, 1], which is the paper's.

    Raises:
        UserError: sigma_data is not positive.
    """

    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < math.inf:
            raise UserError(f"EDM needs sigma_data > 0, got {self.sigma_data}; 1 for latents, 0.5 for pixels")

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """(alpha s^2 / d^2, sigma s / d, 1 / d)."""
        s = self.sigma_data
        d = torch.hypot(sigma, alpha * s)
        return Coefficients(alpha * (s / d) ** 2, sigma * s / d, 1 / d)

    def target(self, x_0: Latent, eps: Latent, alpha: Tensor, sigma: Tensor) -> Latent:
        """(sigma x_0 - alpha s^2 eps) / (s d)."""
        s = self.sigma_data
        d = torch.hypot(sigma, alpha * s)
        return (sigma / (s * d)) * x_0 - (alpha * s / d) * eps


@parameterizations.register("mixed")
@dataclass(frozen=True)
class Mixed(Parameterization):
    """eps = (1 - a) sigma / (alpha^2 + sigma^2) x_t + a F: the network tells only what is not so for N(0, I) data, of
    which the first term is the exact E[eps | x_t] and the whole truth where a = 0.

    Vahdat et al. 2021 (LSGM), https://arxiv.org/abs/2106.05931, section 3.2, who learn a per channel; here it is fixed.
    a = 1 is `Epsilon`. Undefined where alpha = 0.

    Args:
        share: a.

    Raises:
        UserError: share outside (0, 1].
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"Mixed needs a share of the network in (0, 1], got {self.share}; 1 is epsilon prediction")

    def coefficients(self, alpha: Tensor, sigma: Tensor) -> Coefficients:
        """((alpha^2 + a sigma^2) / (alpha (alpha^2 + sigma^2)), -a sigma / alpha, 1); infinite at alpha = 0."""
        power = alpha**2 + sigma**2
        c_skip = (alpha**2 + self.share * sigma**2) / (alpha * power)
        return Coefficients(c_skip, -self.share * sigma / alpha, torch.ones_like(alpha))

    def target(self, x_0: Latent, eps: Latent, alpha: Tensor, sigma: Tensor) -> Latent:
        """eps + (1 / a - 1) alpha (alpha eps - sigma x_0) / (alpha^2 + sigma^2)."""
        velocity = alpha * eps - sigma * x_0
        return eps + (1 / self.share - 1) * alpha / (alpha**2 + sigma**2) * velocity

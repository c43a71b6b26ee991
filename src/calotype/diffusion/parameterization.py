"""What the network's output F means: one line of linear algebra.

    x_0 = c_skip x_t + c_out F(c_in x_t)

for any (alpha, sigma), not only alpha^2 + sigma^2 = 1. Nobody but `Denoiser` needs to know which one is in use.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

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

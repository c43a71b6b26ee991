"""How much an error at each noise level counts.

A weighting is a statement about the error of one quantity, whatever the network predicts. Errors convert linearly at
fixed x_t: with d_x the error of x_0 and d_F that of the network's output,

    d_x = c_out d_F,    d_eps = (alpha / sigma) d_x,    d_v = ((alpha^2 + sigma^2) / sigma) d_x

so the same weighting gives the same loss under every parameterization. SNR = alpha^2 / sigma^2.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from calotype.errors import UserError
from calotype.registry import Registry


class Weighting(Protocol):
    """The multiplier on the squared error of the network's output."""

    @abstractmethod
    def __call__(self, alpha: Tensor, sigma: Tensor, c_out: Tensor) -> Tensor:
        """The multiplier on |d_F|^2, of the shape of alpha, sigma > 0 and c_out (see `Coefficients`)."""


weightings: Registry[Weighting] = Registry("weighting")


@weightings.register("epsilon")
@dataclass(frozen=True)
class UniformEpsilon(Weighting):
    """|d_eps|^2, the "simple" loss: Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (14)."""

    def __call__(self, alpha: Tensor, sigma: Tensor, c_out: Tensor) -> Tensor:
        """(alpha c_out / sigma)^2."""
        return (alpha * c_out / sigma) ** 2


@weightings.register("velocity")
@dataclass(frozen=True)
class UniformVelocity(Weighting):
    """|d_v|^2: Salimans & Ho 2022, https://arxiv.org/abs/2202.00512 ("SNR + 1" weighting of the x_0 error)."""

    def __call__(self, alpha: Tensor, sigma: Tensor, c_out: Tensor) -> Tensor:
        """((alpha^2 + sigma^2) c_out / sigma)^2."""
        return ((alpha**2 + sigma**2) * c_out / sigma) ** 2


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

    def __call__(self, alpha: Tensor, sigma: Tensor, c_out: Tensor) -> Tensor:
        """min(alpha^2 / sigma^2, gamma) c_out^2."""
        return ((alpha / sigma) ** 2).clamp(max=self.gamma) * c_out**2

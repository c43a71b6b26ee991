"""The last step of a likelihood: how probable the data are, once their prediction is known.

A chain of Gaussians ends at a noisy x_t; a readout turns the prediction of x_0 and its variance into -log p(x_0 | x_t).

    Gaussian       a density, for data that are continuous (latents); in bits it may be negative
    Discretized    a probability, for pixels of 8 bits: the mass of N(x_0_hat, variance) in the cell around each value

The two are on different scales: a density says nothing about bits of a file until its data are given cells.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from calotype.errors import UserError
from calotype.registry import Registry
from calotype.types import Latent


class Readout(Protocol):
    """-log p(x_0 | x_t), one number per element."""

    @abstractmethod
    def __call__(self, x_0: Latent, mean: Latent, log_variance: Tensor) -> Tensor:
        """Nats (B, ...) of x_0 (B, ...) under N(mean, exp(log_variance)); log_variance broadcasts with x_0.

        Raises `UserError` if x_0 is no data of this kind."""


readouts: Registry[Readout] = Registry("readout")


@readouts.register("gaussian")
@dataclass(frozen=True)
class Gaussian(Readout):
    """1/2 (log 2 pi + log variance + (x_0 - mean)^2 / variance)."""

    def __call__(self, x_0: Latent, mean: Latent, log_variance: Tensor) -> Tensor:
        """See the class; any x_0."""
        return 0.5 * (math.log(2 * math.pi) + log_variance + (x_0 - mean).square() * (-log_variance).exp())


@readouts.register("discretized")
@dataclass(frozen=True)
class Discretized(Readout):
    """The mass of a Gaussian in cells of width 2 / 255 around the 256 values of [-1, 1]; the outermost cells are open.

    Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (13).

    Args:
        approximate: take Phi(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 and no probability below 1e-12, as
            the paper's code does; for its numbers only, since the exact value costs as little.
    """

    approximate: bool = False

    def __call__(self, x_0: Latent, mean: Latent, log_variance: Tensor) -> Tensor:
        """See the class; x_0 must lie on the 256 values, to within a thousandth of a cell.

        Raises `UserError` for values between them or beyond [-1, 1]."""
        cells = (x_0.detach() + 1) * 127.5
        if not bool((((cells - cells.round()).abs() < 1e-3) & (cells > -0.5) & (cells < 255.5)).all()):
            raise UserError(
                f"pixels of 8 bits were expected, multiples of 2/255 from -1 to 1, but values from {x_0.min():.4g} to "
                f"{x_0.max():.4g} came that are not; round them first, or take the readout 'gaussian' for latents"
            )
        # in float64: a pixel a hundred deviations away costs the small difference of two large logarithms
        away, precision = x_0.double() - mean.double(), (-log_variance.double() / 2).exp()
        below, above = (away - 1 / 255) * precision, (away + 1 / 255) * precision
        mass = _log_mass_tanh if self.approximate else _log_mass
        # cell 0 reaches down to -infinity and cell 255 up to +infinity
        return -mass(below, above, cells < 0.5, cells > 254.5).to(x_0)


def _log_mass(below: Tensor, above: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """log(Phi(above) - Phi(below)) without leaving the logarithm, so that a cell far away costs what it should."""
    # Mirrored to the left tail, where log Phi keeps its digits; on the right both would be log 1.
    right = below + above > 0
    near, far = torch.where(right, -below, above), torch.where(right, -above, below)
    log_near = _log_cdf(near)
    # a cell narrower than rounding would have no mass at all
    gap = (_log_cdf(far) - log_near).clamp(max=-torch.finfo(near.dtype).eps)
    inside = log_near + (-torch.expm1(gap)).log()
    return torch.where(lowest, _log_cdf(above), torch.where(highest, _log_cdf(-below), inside))


def _log_cdf(x: Tensor) -> Tensor:
    """log Phi(x). torch has it, but its gradient overflows far to the left, where this one is a ratio of like sizes."""
    left, right = x.clamp(max=0) / math.sqrt(2), x.clamp(min=0) / math.sqrt(2)
    return torch.where(
        x < 0,
        (0.5 * torch.special.erfcx(-left)).log() - left.square(),
        torch.log1p(-0.5 * torch.special.erfc(right)),
    )


def _log_mass_tanh(below: Tensor, above: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    def cdf(x: Tensor) -> Tensor:
        return 0.5 * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())

    ends = torch.where(lowest, cdf(above), 1 - cdf(below))
    return torch.where(lowest | highest, ends, cdf(above) - cdf(below)).clamp(min=1e-12).log()

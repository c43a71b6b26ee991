"""How far the network's output is from its target: one number per sample.

    distance(d_F),    d_F = F - F*

A distance is quadratic, distance(c d) = c^2 distance(d), so a weighting converts it from the error of F to that of eps,
x_0 or v by one multiplier per sample (see `weighting`). A velocity network trained with `UniformEpsilon` minimises the
distance of its eps: d_eps = alpha d_v where alpha^2 + sigma^2 = 1. Errors are converted, not predictions, so nothing is
divided by a vanishing amplitude and no weight has to be clipped.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from calotype.errors import UserError
from calotype.registry import Registry


class Distance(Protocol):
    """A quadratic form of the difference between the network's output and its target."""

    @abstractmethod
    def __call__(self, difference: Tensor) -> Tensor:
        """(B, C, H, W) -> (B,), of the same dtype. Raises `UserError` as `check` does."""

    @abstractmethod
    def check(self, height: int, width: int) -> None:
        """Raises `UserError` if it is not defined for latents of this size."""


distances: Registry[Distance] = Registry("distance")


@distances.register("mean_square")
@dataclass(frozen=True)
class MeanSquare(Distance):
    """mean d^2 over channels and positions: Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (14)."""

    def __call__(self, difference: Tensor) -> Tensor:
        """The mean of squares."""
        return difference.square().flatten(1).mean(1)

    def check(self, height: int, width: int) -> None:
        """Any size will do."""


@distances.register("multi_scale")
@dataclass(frozen=True)
class MultiScale(Distance):
    """sum_s w_s mean (D_s d)^2, s in {smallest, 2 smallest, ..., side}: details count less, the whole picture more.

    D_s averages over squares so that the shorter side becomes s; pooling is linear, so the difference is pooled, once.
    Hoogeboom et al. 2023, https://arxiv.org/abs/2301.11093, section 3.2: in large pictures the plain loss is mostly
    about the finest detail. They find this of use above 256 x 256. For white noise of unit variance mean (D_s d)^2 is
    (s / side)^2.

    Args:
        smallest: the smallest scale; the paper's is 32. The shorter side must be `smallest` times a power of two.
        normalised: w_s = (1 / s) / sum_s (1 / s), so that the distance stays a mean of squares, comparable between
            sizes and equal to `MeanSquare` where there is one scale only. False: w_s = 1 / s as in the paper, which is
            the same but for a factor that depends on the size alone. In both, every scale's error is a mean over
            channels and positions; transcriptions of the paper disagree about a further 1 / s.

    Raises:
        UserError: smallest is not positive.
    """

    smallest: int = 32
    normalised: bool = True

    def __post_init__(self) -> None:
        if self.smallest < 1:
            raise UserError(f"MultiScale needs a smallest scale of at least 1, got {self.smallest}; the paper uses 32")

    def __call__(self, difference: Tensor) -> Tensor:
        """The weighted sum of the means of squares."""
        weights = self.weights(*difference.shape[-2:])
        total = difference.new_zeros(len(difference))
        for s in sorted(weights, reverse=True):
            total = total + weights[s] * difference.square().flatten(1).mean(1)
            if s > self.smallest:
                difference = F.avg_pool2d(difference, 2)
        return total

    def weights(self, height: int, width: int) -> dict[int, float]:
        """Scale s -> w_s for this size; raises `UserError` as `check` does."""
        self.check(height, width)
        scales = [self.smallest]
        while scales[-1] < min(height, width):
            scales.append(2 * scales[-1])
        total = sum(1 / s for s in scales) if self.normalised else 1.0
        return {s: 1 / s / total for s in scales}

    def check(self, height: int, width: int) -> None:
        """Raises `UserError` unless the shorter side is smallest 2^k and the longer one a multiple of 2^k."""
        side = min(height, width)
        times, rest = divmod(side, self.smallest)
        if rest or times < 1 or times & (times - 1) or max(height, width) % times:
            fits, longer = side, max(height, width)
            while fits > self.smallest and fits % 2 == longer % 2 == 0:
                fits, longer = fits // 2, longer // 2
            raise UserError(
                f"the multi-scale loss halves sides down to {self.smallest}, so {height} x {width} does not do; take "
                f"sides of {self.smallest} times a power of two, or another smallest scale, such as "
                f"objective.distance.smallest={fits}"
            )

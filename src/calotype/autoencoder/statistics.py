"""How raw latents are brought to unit variance; the rules by which `LatentStats` is measured, once, after training.

Notation: q(z | x) = N(mu, s^2), one posterior per picture x; z a sample of it; c, h, w latent channel and position.

    per_channel     mean_c = E z_c        std_c = sqrt(Var z_c)     over the whole training set
    global          mean   = E z          std   = sqrt(Var z)       one of each, over the whole training set
    first_batch     mean   = 0            std   = sqrt(Var z)       of samples of one batch: Rombach et al. 2022

Whole sets are summed in closed form (no sampling noise): E z = E mu, Var z = E[mu^2 + s^2] - (E mu)^2. All sums are in
float64 and over all ranks.

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 4.3.2 and appendix G.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from calotype import ranks
from calotype.nn.sizes import check_sizes
from calotype.registry import Registry
from calotype.types import Latent, Noise

SMALLEST_VARIANCE = 1e-12
"""Of a channel that says nothing: it must not be divided by zero."""


@dataclass(frozen=True)
class Posterior:
    """q(z | x) of some pictures, raw.

    Args:
        mu, s: mean and standard deviation, each (B, C, h, w).
        noise: the standard normal numbers of these pictures' samples.
    """

    mu: Latent
    s: Latent
    noise: Noise

    def sample(self) -> Latent:
        """z = mu + s eps."""
        return self.mu + self.s * self.noise(self.mu)


@runtime_checkable
class Statistics(Protocol):
    """A rule; a registered frozen dataclass."""

    @property
    def pictures(self) -> int | None:
        """How many pictures it looks at: a training batch of that size, or None = every training picture."""
        ...

    def measure(self, posteriors: Iterable[Posterior], channels: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (C,) float64 on the CPU, the same on every rank.

        Args:
            posteriors: this rank's share of the pictures; any split of the set gives the same result.
            channels: C, which a rank without a share could not know.

        Raises:
            ValueError: no picture on any rank.
        """
        ...


statistics: Registry[Statistics] = Registry("statistics", "calotype.autoencoder")


@statistics.register("per_channel")
@dataclass(frozen=True)
class PerChannel:
    """Every channel has zero mean and unit variance over the training set."""

    pictures: ClassVar[int | None] = None

    def measure(self, posteriors: Iterable[Posterior], channels: int) -> tuple[Tensor, Tensor]:
        """See the module docstring."""
        n, first, second = _moments(posteriors, channels)
        return first / n, _root(second / n - (first / n).square())


@statistics.register("global")
@dataclass(frozen=True)
class Global:
    """All channels share one mean and one scale, which keeps their relative sizes."""

    pictures: ClassVar[int | None] = None

    def measure(self, posteriors: Iterable[Posterior], channels: int) -> tuple[Tensor, Tensor]:
        """See the module docstring."""
        n, first, second = _moments(posteriors, channels)
        mean, square = first.mean() / n, second.mean() / n
        return mean.repeat(channels), _root(square - mean.square()).repeat(channels)


@statistics.register("first_batch")
@dataclass(frozen=True)
class FirstBatch:
    """The rule of the released models ("scale_by_std"): z / std, std of *samples* of the run's first batch.

    One number for all channels, unbiased; the mean is not removed. It differs from batch to batch and from run to run.

    Args:
        batch: pictures in that batch, over all ranks.

    Raises:
        ValueError: fewer than one picture.
    """

    batch: int = 32

    def __post_init__(self) -> None:
        check_sizes(batch=(self.batch, 2**20))

    @property
    def pictures(self) -> int | None:
        """The batch."""
        return self.batch

    def measure(self, posteriors: Iterable[Posterior], channels: int) -> tuple[Tensor, Tensor]:
        """See the class."""
        sums = torch.zeros(3, dtype=torch.float64)
        for posterior in posteriors:
            z = posterior.sample().double().cpu()
            sums += torch.stack([sums.new_tensor(z.numel()), z.sum(), z.square().sum()])
        n, first, second = ranks.total(sums)
        if n < 2:
            raise ValueError("latent statistics need at least one image")
        std = _root((second - first.square() / n) / (n - 1))
        return torch.zeros(channels, dtype=torch.float64), std.repeat(channels)


def _moments(posteriors: Iterable[Posterior], channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers per channel n, their sum (C,) and sum of squares (C,), over all ranks."""
    n = torch.zeros(1, dtype=torch.float64)
    first, second = torch.zeros(2, channels, dtype=torch.float64)
    for posterior in posteriors:
        mu, s = posterior.mu.double(), posterior.s.double()
        n += mu.numel() // channels
        first += mu.sum((0, 2, 3)).cpu()
        second += (mu.square() + s.square()).sum((0, 2, 3)).cpu()
    sums = ranks.total(torch.cat([n, first, second]))
    if sums[0] == 0:
        raise ValueError("latent statistics need at least one image")
    return sums[0], sums[1 : channels + 1], sums[channels + 1 :]


def _root(variance: Tensor) -> Tensor:
    return variance.clamp_min(SMALLEST_VARIANCE).sqrt()

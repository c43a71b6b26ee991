"""What a sampler is: a generator that walks from noise to data.

A sampler is a frozen dataclass. Calling it gives an iterator with one `Step` per interval of `times`; whoever iterates
decides about progress bars, previews and giving up. A sampler keeps no state but local variables, and knows neither
networks nor conditions: only the function (x_t, t) -> E[x_0 | x_t].
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from calotype.diffusion.schedule import Schedule
from calotype.diffusion.variance import Variance
from calotype.registry import Registry
from calotype.types import Denoise, Latent, Noise


@dataclass(frozen=True)
class Step:
    """The sample `x` at the time `t` just reached, and the prediction `x_0` made on the way, a free preview."""

    x: Latent
    t: Tensor
    x_0: Latent


class Sampler(Protocol):
    """How to get from noise to data. The contract tests hold every registered member to what it declares here."""

    order: ClassVar[int]
    """Of convergence, with default fields: halving the steps' size divides the error by 2^order (for a stochastic
    sampler, the error of mean and covariance)."""

    stochastic: ClassVar[bool]
    """Whether the result, with default fields, depends on `noise`."""

    @abstractmethod
    def __call__(self, denoise: Denoise, x: Latent, times: Tensor, schedule: Schedule, noise: Noise) -> Iterator[Step]:
        """Yield one `Step` per interval of `times`.

        Args:
            denoise: (x_t, t) -> E[x_0 | x_t], with t (B,).
            x: the sample at times[0] (B, ...), to begin with sigma(times[0]) times N(0, 1) noise; any floating dtype,
                widened to that of the predictions (float32 from a `Denoiser`).
            times: n + 1 strictly decreasing times (n + 1,) in [0, 1], float64 on the CPU: a `Grid` makes them. Scalars
                taken from it are computed in float64 and multiply x on any device without widening it.
            schedule: the forward process of `denoise`.
            noise: x -> fresh N(0, 1) noise like x, one generator per sample.

        Gradients are off inside, by `no_grad` rather than `inference_mode`, so that a guidance may turn them on.
        """

    def check(self, times: Tensor, schedule: Schedule, variance: Variance) -> None:
        """Raise `UserError` if a walk over these times, by a denoiser of this variance, cannot go well; every walk can
        unless a member says so."""
        return None


samplers: Registry[Sampler] = Registry("sampler", "calotype.diffusion.samplers")

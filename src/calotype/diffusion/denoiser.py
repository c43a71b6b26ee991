"""A network that has learned what it means to denoise.

    E[x_0 | x_t, c] = c_skip x_t + c_out F(c_in x_t, clock(t), c)

The `Denoiser` is the sole owner of diffusion weights, and the last place that knows about parameterizations: samplers
and guidance see (x_t, t) -> x_0.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.diffusion.clock import Clock
from calotype.diffusion.parameterization import Parameterization
from calotype.diffusion.schedule import Schedule, rows, wide
from calotype.diffusion.variance import FixedSmall, PosteriorVariance, Prediction, Variance
from calotype.errors import UserError
from calotype.types import Latent, Time


class Network(Protocol):
    """What a denoiser needs of a network."""

    @abstractmethod
    def __call__(self, x: Latent, time: Time, cond: Condition) -> Tensor:
        """F of the shape of x (B, C, H, W), followed along channels by v (B, C, H, W) where the variance is learned;
        `time` (B,) float32 is what the clock shows, e.g. 0 ... 1000."""


class ConditionalDenoise(Protocol):
    """A `Denoise` whose condition is still open: a `Denoiser`, or what stands in its place for guidance."""

    @property
    @abstractmethod
    def schedule(self) -> Schedule:
        """The forward process."""

    @property
    @abstractmethod
    def variance(self) -> Variance:
        """Of the reverse chain's steps."""

    @abstractmethod
    def __call__(self, x_t: Latent, t: Time, cond: Condition) -> Latent:
        """E[x_0 | x_t, cond], shaped like x_t, in float32 (float64 if x_t is); t (B,) in [0, 1]."""

    @abstractmethod
    def predict(self, x_t: Latent, t: Time, cond: Condition) -> Prediction:
        """The same x_0 with v, at the cost of one call."""

    @abstractmethod
    def bind(self, cond: Condition) -> BoundDenoiser:
        """(x_t, t) -> E[x_0 | x_t, cond]."""


class Denoiser(nn.Module):
    """A network, the schedule it was trained on, and what its output means. Final: wrap it, do not subclass it.

    Args:
        network: maps (c_in x_t, clock(t), condition) to F.
        schedule: the forward process.
        parameterization: what F is.
        clock: what the network is told about time; by default the schedule's: 1000 t, or the index of a table.
        variance: of the reverse chain's steps; `LearnedRange` reads it off a network of 2 C output channels.

    Raises:
        UserError: the parameterization is not defined at the noisy end of the schedule (epsilon where alpha = 0).
    """

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        parameterization: Parameterization,
        clock: Clock | None = None,
        variance: Variance | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.parameterization = parameterization
        self.clock = clock or schedule.clock
        self.variance = variance or FixedSmall()
        end = parameterization.coefficients(*schedule.at(torch.ones(1, dtype=torch.float64)))
        if not all(c.isfinite().all() for c in end):
            raise UserError(
                f"{type(parameterization).__name__} prediction is undefined at t = 1, where {schedule.curve} leaves no "
                "signal; predict velocity or x0, or give the schedule a finite logsnr_min"
            )

    def outputs(self, x_t: Latent, t: Time, cond: Condition) -> tuple[Tensor, Tensor | None]:
        """The network's own output F (B, C, H, W), and v of the same shape or None (see `Prediction`), in float32
        (float64 if x_t is); t (B,) in [0, 1].

        Raises `UserError` if the network's output is not shaped like x_t, or has not the channels for v."""
        *_, c_in = self.parameterization.coefficients(*self.schedule.at(t))
        # a clock reading is rounded to float32 last: near t = 0 a coarser t would show another time
        time = self.clock(t.double()).to(x_t.device, torch.float32)
        out: Tensor = self.network(rows(c_in, x_t) * x_t, time, cond)
        n = self.variance.outputs
        if out.shape != (len(x_t), n * x_t.shape[1], *x_t.shape[2:]):
            raise UserError(
                f"the network answered with shape {tuple(out.shape)} to a latent of shape {tuple(x_t.shape)}; "
                f"build it with out_channels equal to {'' if n == 1 else f'{n} times '}the latent's channels"
            )
        f, *v = out.to(wide(x_t)).chunk(n, 1)
        return f, v[0] if v else None

    def raw(self, x_t: Latent, t: Time, cond: Condition) -> Tensor:
        """F alone, see `outputs`."""
        return self.outputs(x_t, t, cond)[0]

    def predict(self, x_t: Latent, t: Time, cond: Condition) -> Prediction:
        """E[x_0 | x_t, cond] and v, each shaped like x_t, in float32 (float64 if x_t is); t (B,) in [0, 1]."""
        x = x_t.to(wide(x_t))
        c_skip, c_out, _ = self.parameterization.coefficients(*self.schedule.at(t))
        f, v = self.outputs(x_t, t, cond)
        return Prediction(rows(c_skip, x) * x + rows(c_out, x) * f, v)

    def forward(self, x_t: Latent, t: Time, cond: Condition) -> Latent:
        """E[x_0 | x_t, cond], shaped like x_t, in float32 (float64 if x_t is); t (B,) in [0, 1]."""
        return self.predict(x_t, t, cond).x_0

    def bind(self, cond: Condition) -> BoundDenoiser:
        """(x_t, t) -> E[x_0 | x_t, cond]: here conditions disappear. Its `predict` says v too."""
        return BoundDenoiser(self, cond)


@dataclass(frozen=True, eq=False)
class BoundDenoiser(PosteriorVariance):
    """A denoiser with its condition: a `Denoise`, and a `PosteriorVariance`."""

    denoiser: ConditionalDenoise
    cond: Condition

    def __call__(self, x_t: Latent, t: Time) -> Latent:
        """E[x_0 | x_t, cond]."""
        return self.denoiser(x_t, t, self.cond)

    def predict(self, x_t: Latent, t: Time) -> Prediction:
        """E[x_0 | x_t, cond] and v."""
        return self.denoiser.predict(x_t, t, self.cond)

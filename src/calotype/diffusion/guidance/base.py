"""What a guidance is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from calotype.condition import Condition
from calotype.diffusion.denoiser import ConditionalDenoise
from calotype.diffusion.variance import PosteriorVariance, Prediction, predictor
from calotype.errors import UserError
from calotype.registry import Registry
from calotype.types import Denoise, Latent, Time


class Guidance(Protocol):
    """How strongly a sample follows its condition."""

    @property
    @abstractmethod
    def asks_null(self) -> bool:
        """Whether the denoiser itself is asked what it predicts without a wish, which it must have learned."""

    @abstractmethod
    def __call__(self, denoiser: ConditionalDenoise, cond: Condition, null: Condition) -> Denoise:
        """(x_t, t) -> x_0 for the wishes `cond`; `null` (same routes, same B) is what "no wish" looks like.

        A learned variance is kept: that of the prediction for `cond`. Raises `UserError` where `null` is needed and
        does not fit `cond`."""


guidances: Registry[Guidance] = Registry("guidance", "calotype.diffusion.guidance")


@dataclass(frozen=True, eq=False)
class Guided(PosteriorVariance):
    """A function (x_t, t) -> Prediction as a `Denoise` that keeps a learned variance."""

    function: Callable[[Latent, Time], Prediction]

    def __call__(self, x_t: Latent, t: Time) -> Latent:
        """x_0."""
        return self.function(x_t, t).x_0

    def predict(self, x_t: Latent, t: Time) -> Prediction:
        """x_0 and v."""
        return self.function(x_t, t)


def adjusted(denoise: Denoise, change: Callable[[Latent, Latent, Time], Latent]) -> Denoise:
    """`denoise` with `change(x_0, x_t, t)` in place of each prediction x_0; a learned variance stays as it is."""

    def predict(x_t: Tensor, t: Tensor) -> Prediction:
        x_0, v = predictor(denoise)(x_t, t)
        return Prediction(change(x_0, x_t, t), v)

    return Guided(predict)


def check_null(cond: Condition, null: Condition) -> None:
    """Raise `UserError` unless `null` has the routes and the number of samples of `cond`."""
    for name in ("tokens", "spatial", "vector"):
        a, b = getattr(cond, name), getattr(null, name)
        if (a is None) != (b is None):
            has, lacks = ("the condition", "null") if b is None else ("null", "the condition")
            raise UserError(
                f"guidance contrasts a condition with null, but {has} has {name} and {lacks} has none; take the null "
                "of the same conditioner, or scale 1"
            )
        if a is not None and b is not None and len(a) != len(b):
            raise UserError(f"guidance got {len(a)} conditions and {len(b)} times null; give one null per condition")

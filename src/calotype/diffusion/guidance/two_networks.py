"""Guidance by a second network. It holds weights, and so has no name in files: it is made where both are at hand."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from calotype.condition import Condition
from calotype.diffusion.denoiser import ConditionalDenoise
from calotype.diffusion.guidance.base import Guidance, check_null
from calotype.diffusion.guidance.extrapolation import Extrapolation
from calotype.diffusion.variance import Prediction
from calotype.errors import UserError
from calotype.types import Denoise, Latent


@dataclass(frozen=True, eq=False)
class Autoguidance(Extrapolation, Guidance):
    """x_0 = x_worse + scale (x_0 - x_worse), x_worse by a smaller or less trained network for the same condition.

    Karras et al. 2024, https://arxiv.org/abs/2406.02507. No null is needed. The other args and errors are
    those of `Extrapolation`.

    Args:
        worse: of the same data and schedule; what it predicts may differ.
    """

    worse: ConditionalDenoise = field(kw_only=True)

    @property
    def asks_null(self) -> bool:
        """No, the other network is."""
        return False

    def __call__(self, denoiser: ConditionalDenoise, cond: Condition, null: Condition) -> Denoise:
        """Both networks for `cond`. Raises `UserError` if their schedules differ."""
        return _against(self, denoiser, self.worse, cond, cond)


@dataclass(frozen=True, eq=False)
class ForeignNull(Extrapolation, Guidance):
    """Classifier-free guidance whose null prediction is another network's, such as that of an unconditional model.

    The way to guide a model that was trained without dropping conditions: Ho & Salimans 2022,
    https://arxiv.org/abs/2207.12598, section 3.2, name it. The other args and errors are those of `Extrapolation`.

    Args:
        other: of the same data and schedule.
        null: its condition, one row; by default that which is given at the call, for `other` of the same conditioner.
    """

    other: ConditionalDenoise = field(kw_only=True)
    null: Condition | None = field(default=None, kw_only=True)

    @property
    def asks_null(self) -> bool:
        """No, the other network is."""
        return False

    def __call__(self, denoiser: ConditionalDenoise, cond: Condition, null: Condition) -> Denoise:
        """`denoiser` for `cond` against `other` for null. Raises `UserError` if their schedules differ."""
        if self.null is None:
            check_null(cond, null)
        return _against(self, denoiser, self.other, cond, null if self.null is None else self.null)


def _against(
    rule: Extrapolation, better: ConditionalDenoise, worse: ConditionalDenoise, cond: Condition, against: Condition
) -> Denoise:
    if worse.schedule != better.schedule:
        raise UserError(
            f"the two networks of a guidance must share a schedule, got {better.schedule} and {worse.schedule}; train "
            "the second with that of the first"
        )
    conditional = better.bind(cond)

    def pair(x_t: Tensor, t: Tensor) -> tuple[Prediction, Latent]:
        few = against.expand(len(x_t)) if _rows(against) == 1 else against
        return conditional.predict(x_t, t), worse.bind(few)(x_t, t)

    return rule.extrapolated(better.schedule, conditional, pair)


def _rows(condition: Condition) -> int | None:
    values = (condition.tokens, condition.spatial, condition.vector)
    return next((len(v) for v in values if v is not None), None)

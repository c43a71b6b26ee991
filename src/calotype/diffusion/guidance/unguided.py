"""No guidance."""

from __future__ import annotations

from dataclasses import dataclass

from calotype.condition import Condition
from calotype.diffusion.denoiser import ConditionalDenoise
from calotype.diffusion.guidance.base import Guidance, guidances
from calotype.types import Denoise


@guidances.register("unguided")
@dataclass(frozen=True)
class Unguided(Guidance):
    """The conditional prediction as it is."""

    @property
    def asks_null(self) -> bool:
        """No."""
        return False

    def __call__(self, denoiser: ConditionalDenoise, cond: Condition, null: Condition) -> Denoise:
        """`denoiser.bind(cond)`."""
        return denoiser.bind(cond)

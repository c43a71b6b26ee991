"""What a mask generator is.

A HOLE MASK IS TRUE IN THE HOLE: where pixels are missing and are to be painted. `calotype.diffusion.wrappers` speaks of
what is known instead, so there it is `~hole`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calotype.errors import UserError
from calotype.registry import Registry

Hole = NDArray[np.bool_]
"""(H, W), True where pixels are missing, False where they are known."""


@runtime_checkable
class MaskGenerator(Protocol):
    """Where a picture has its holes."""

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """bool (height, width), TRUE IN THE HOLE, False where pixels are known; never without a hole.

        The same for a generator in the same state. Raises `UserError` for a picture that is too small."""


masks: Registry[MaskGenerator] = Registry("mask", "calotype.data.masks", MaskGenerator)


def check_range(name: str, values: tuple[int, int], least: int) -> None:
    """Raise `UserError` unless values are (lowest, highest), whole numbers of at least `least`."""
    if not least <= values[0] <= values[1]:
        raise UserError(f"{name} must be (lowest, highest) of {least} or more, got {values}; swap or raise them")


def draw(values: tuple[int, int], rng: np.random.Generator) -> int:
    """A whole number from lowest to highest, both included, every one as often."""
    return int(rng.integers(*values, endpoint=True))

"""Masks that leave enough of the picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calotype.data.masks.base import Hole, MaskGenerator, masks
from calotype.data.masks.mixed import Mixed
from calotype.errors import UserError


@masks.register("limited")
@dataclass(frozen=True)
class Limited:
    """The first of some masks whose hole is at most a share of the picture, else the smallest; TRUE IN THE HOLE.

    LaMa's test masks (Suvorov et al. 2021, https://arxiv.org/abs/2109.07161) keep to half of the picture, out of 5.

    Args:
        mask: the generator.
        most: the share, above 0, up to 1.
        tries: how many masks are drawn at most.

    Raises:
        UserError: a share or a number of tries out of range.
    """

    mask: MaskGenerator = field(default_factory=Mixed)
    most: float = 0.5
    tries: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.most <= 1:
            raise UserError(f"most must be a share above 0, up to 1, got {self.most}; 0.5 is LaMa's")
        if self.tries < 1:
            raise UserError(f"tries must be 1 or more, got {self.tries}; 5 is LaMa's")

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """See `MaskGenerator`."""
        smallest = self.mask(height, width, rng)
        for _ in range(self.tries - 1):
            if smallest.mean() <= self.most:
                break
            smallest = min(smallest, self.mask(height, width, rng), key=np.mean)
        return smallest

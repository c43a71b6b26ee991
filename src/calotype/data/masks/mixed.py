"""One of several mask generators."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calotype.data.masks.base import Hole, MaskGenerator, masks
from calotype.data.masks.boxes import Boxes
from calotype.data.masks.irregular import Irregular
from calotype.errors import UserError


@masks.register("mixed")
@dataclass(frozen=True)
class Mixed:
    """Each mask from one of several generators, chosen by probability; TRUE IN THE HOLE.

    By default what LaMa (Suvorov et al. 2021, https://arxiv.org/abs/2109.07161, `abl-04-256-mh-dist`) and LDM's
    inpainting train on: strokes or boxes, half and half, for pictures of 256 pixels. For others see `Scaled`.

    Args:
        members: the generators.
        shares: how often each, as numbers in proportion.

    Raises:
        UserError: no members, another number of shares, a negative one, or none above 0.
    """

    members: tuple[MaskGenerator, ...] = (Irregular(), Boxes())
    shares: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not self.members or len(self.members) != len(self.shares):
            raise UserError(f"mixed masks need one share per member, got {len(self.shares)} for {len(self.members)}")
        if min(self.shares) < 0 or not 0 < sum(self.shares) < math.inf:
            raise UserError(f"shares must be 0 or more and one of them above 0, got {list(self.shares)}")

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Hole:
        """See `MaskGenerator`."""
        shares = np.array(self.shares) / sum(self.shares)
        return self.members[int(rng.choice(len(self.members), p=shares))](height, width, rng)

"""The degradation of the super-resolution literature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from calotype.data.degradations.base import check_factor, degradations, small_size
from calotype.data.images import Pixels


@degradations.register("bicubic")
@dataclass(frozen=True)
class Bicubic:
    """Antialiased bicubic shrinking, exactly Pillow's; nothing is random.

    Keys' cubic with a = -0.5, `factor` times as wide, each output pixel's weights normalised within the picture. What
    SR3 (Saharia et al. 2021, https://arxiv.org/abs/2104.07636) and LDM (appendix D.6.1 of
    https://arxiv.org/abs/2112.10752) train on. MATLAB's `imresize` has the same kernel and mirrors the picture at its
    border instead: away from it both agree to rounding. OpenCV's INTER_CUBIC does not antialias and is something else.

    Args:
        factor: how many times smaller; 2 or more.

    Raises:
        UserError: a factor below 2.
    """

    factor: int = 4

    def __post_init__(self) -> None:
        check_factor(self.factor)

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """See `Degradation`; draws nothing."""
        height, width = small_size(image, self.factor)
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))

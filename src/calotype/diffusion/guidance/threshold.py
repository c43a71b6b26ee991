"""Dynamic thresholding: pictures that guidance has driven out of range are brought back without saturating."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from calotype.diffusion.schedule import rows
from calotype.errors import UserError
from calotype.types import Latent


@dataclass(frozen=True)
class DynamicThreshold:
    """x_0 -> clip(x_0, -s, s) / s,    s = max(1, quantile of |x_0| per sample).

    Saharia et al. 2022 (Imagen), https://arxiv.org/abs/2205.11487, section 2.3. Only for pixels: data that lie in
    [-1, 1] by nature. Latents have no such range, and would be shrunk wherever they are right.

    Args:
        quantile: of |x_0| over a sample's elements, in (0, 1]; the paper's p = 99.5 is 0.995.
        largest: s is at most this, at least 1; None = no limit. With 1 it is static clipping to [-1, 1].

    Raises:
        UserError: a quantile outside (0, 1], or a limit below 1.
    """

    quantile: float = 0.995
    largest: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.quantile <= 1:
            raise UserError(f"quantile must lie in (0, 1], got {self.quantile}; the paper uses 0.995")
        if self.largest is not None and not self.largest >= 1:
            raise UserError(f"largest must be at least 1, the range of pixels, got {self.largest}")

    def __call__(self, x_0: Latent) -> Latent:
        """x_0 (B, ...) with every sample in [-1, 1]; what lies there already, up to the quantile, stays as it is."""
        # torch's quantile refuses more than 2^24 elements, half precision and no samples at all
        values = x_0.abs().flatten(1).sort(1).values
        place = self.quantile * (values.shape[1] - 1)
        s = torch.lerp(values[:, math.floor(place)], values[:, math.ceil(place)], place % 1)
        s = rows(s.clamp(1, self.largest), x_0)
        return x_0.clamp(-s, s) / s

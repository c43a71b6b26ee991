"""Any size of picture: continued to sides that the networks can halve, and cut back afterwards.

A network halves its input a few times and an autoencoder is one too, so the sides of what they see must be multiples of
a number, 16 or 64 pixels. A picture of another size is mirrored at its right and lower edge; what was made of the
mirrored part is cut away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.errors import UserError
from calotype.model import LatentDiffusion
from calotype.nn.network import Network

LARGEST_AREA = 4096 * 4096
"""Pixels of a picture. Everything that is held of it at once is then some gigabytes."""


def multiple_of(model: LatentDiffusion) -> int:
    """What the sides of a picture must be multiples of, in pixels."""
    network = model.denoiser.network
    return model.autoencoder.factor * (network.config.factor if isinstance(network, Network) else 1)


def times_of(model: LatentDiffusion) -> int:
    """How many times larger than the low-resolution picture, if it takes one, its pictures are; else 1."""
    found = (c.times for c in model.conditioner.configs.values() if isinstance(c, LowResolutionConfig))
    return next(found, 1)


def near(side: int, unit: int) -> str:
    """The multiples of `unit` next to a side that is none, in words."""
    below = side - side % unit
    return " or ".join(map(str, sorted({max(unit, below), below + unit})))


def check_area(height: int, width: int) -> None:
    """Raise `UserError` for a picture that is too large."""
    if height * width > LARGEST_AREA:
        raise UserError(
            f"a picture of {width} x {height} has {height * width / 1e6:.1f} megapixels, {LARGEST_AREA / 1e6:.1f} are "
            "the most that is sampled; make it smaller, or work on parts of it"
        )


def check_multiples(model: LatentDiffusion, height: int, width: int) -> None:
    """Raise `UserError` unless a picture of this size can be sampled as it is."""
    unit = multiple_of(model)
    for name, side in (("height", height), ("width", width)):
        if side % unit or side < unit:
            raise UserError(
                f"{name} {side} is no multiple of the {unit} pixels that this model works in; take {near(side, unit)}"
            )
    check_area(height, width)


@dataclass(frozen=True)
class Frame:
    """The size of a picture, and that of the sample that it is cut from.

    Args:
        height, width: of the picture, in pixels.
        padded_height, padded_width: of the sample.
        times: how many times smaller its low-resolution picture is.
    """

    height: int
    width: int
    padded_height: int
    padded_width: int
    times: int = 1

    @classmethod
    def of(cls, model: LatentDiffusion, height: int, width: int) -> Frame:
        """The smallest sample that the model can make and the picture fits into; raises `UserError` if it is too
        large."""
        times = times_of(model)
        unit = math.lcm(multiple_of(model), times)
        frame = cls(height, width, height + -height % unit, width + -width % unit, times)
        check_area(frame.padded_height, frame.padded_width)
        return frame

    def extended(self, x: Tensor) -> Tensor:
        """A picture or map (..., height, width), mirrored to the size of the sample; raises `ValueError` for others."""
        if x.shape[-2:] != (self.height, self.width):
            raise ValueError(f"pictures and maps must be {self.height} x {self.width} here, got {tuple(x.shape)}")
        return mirrored(x, self.padded_height, self.padded_width)

    def extended_small(self, x: Tensor) -> Tensor:
        """A picture (..., height / times, width / times), mirrored to that part of the size of the sample."""
        return mirrored(x, self.padded_height // self.times, self.padded_width // self.times)

    def cropped(self, x: Tensor) -> Tensor:
        """The picture in a sample (..., padded_height, padded_width)."""
        return x[..., : self.height, : self.width]


def mirrored(x: Tensor, height: int, width: int) -> Tensor:
    """x (..., h, w) continued to the right and below to (..., height, width), mirrored as often as is needed."""
    for dim, size in ((-2, height), (-1, width)):
        n = x.shape[dim]
        if size != n:
            place = torch.arange(size, device=x.device) % max(1, 2 * (n - 1))
            x = x.index_select(dim, torch.where(place < n, place, 2 * (n - 1) - place))
    return x

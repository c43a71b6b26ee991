"""What conditioners share whose wishes are pictures or maps: how these come, what is refused, where they live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from calotype.conditioning.conditioner import Conditioner
from calotype.errors import UserError
from calotype.types import Image


class OfPictures(Conditioner):
    """A conditioner whose wishes are tensors. It may have no weights, so an empty buffer tells where it lives."""

    here: Tensor

    def __init__(self, drop: float, guided: bool) -> None:
        super().__init__(drop, guided)
        self.register_buffer("here", torch.empty(0), persistent=False)

    def stacked(self, batch: Mapping[str, Any], entry: str) -> Tensor:
        """A batch's entry, a tensor (B, ...) or B tensors of one shape, as a tensor here.

        Raises:
            UserError: no tensors, or of different shapes.
        """
        value = batch[entry]
        if not isinstance(value, Tensor):
            each = list(value)
            wrong = next((v for v in each if not isinstance(v, Tensor)), None)
            if wrong is not None or not each:
                got = "none" if wrong is None else f"a {type(wrong).__name__}"
                raise UserError(f"{entry!r} takes tensors, one for each picture, got {got}; convert it first")
            shapes = {tuple(v.shape) for v in each}
            if len(shapes) > 1:
                raise UserError(
                    f"{entry!r} has items of different shapes, {' and '.join(map(str, sorted(shapes)))}; give those of "
                    "one batch one size"
                )
            value = torch.stack(each)
        return value.to(self.here.device)

    def pictures(self, batch: Mapping[str, Any], entry: str) -> Image:
        """A batch's entry as pictures (B, 3, H, W) here.

        Raises:
            UserError: see `stacked`; another number of channels than 3, or whole numbers where [-1, 1] is meant.
        """
        x = self.stacked(batch, entry)
        if x.dim() != 4 or x.shape[1] != 3:
            raise UserError(
                f"{entry!r} must be RGB pictures, (3, H, W) each, got {tuple(x.shape[1:])}; drop an alpha channel, "
                "repeat a grey one"
            )
        if not x.is_floating_point():
            raise UserError(f"{entry!r} must be floats in [-1, 1], got {x.dtype}; for bytes take x / 127.5 - 1")
        return x


def check_sides(what: str, height: int, width: int, factor: int) -> None:
    """Raise `UserError` unless the sides of a picture or map are multiples of the autoencoder's factor."""
    if height % factor or width % factor:
        raise UserError(
            f"{what} is {height} x {width} pixels, whose sides must be multiples of the autoencoder's factor {factor}; "
            "scale or cut it"
        )

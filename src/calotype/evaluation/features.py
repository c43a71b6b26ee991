"""What pictures are turned into before they are compared: the feature network, always named.

**FD-lite0** compares the 112 channels of EfficientNet-Lite0's 1/16 tap, averaged over the picture, at 128 pixels. The
weights travel with the package, so the number needs no download; it is no FID and is never called so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Protocol

import torch
from torch import Tensor

from calotype.generation.images import to_uint8
from calotype.nn.features import WEIGHTS, Lite0Features
from calotype.types import Image


class Pictures(Protocol):
    """A set of pictures in [-1, 1] that can be read in any order; a tensor (N, 3, H, W) is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Rows (b,) long -> (b, 3, H, W)."""
        ...


class Extractor(Protocol):
    """A feature network for measurements; `name` and `sha256` go into every result."""

    @property
    def name(self) -> str:
        """Network, layer, pooling, input size, width."""
        ...

    @property
    def sha256(self) -> str:
        """Of the weights."""
        ...

    def __call__(self, images: Image) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, D) float64 on the CPU."""
        ...


@dataclass(frozen=True, eq=False)
class Lite0:
    """The extractor behind FD-lite0: 112 features.

    Args:
        device: where the network runs.
    """

    device: torch.device | str = "cpu"
    name: str = "EfficientNet-Lite0, 1/16 tap, mean over 128 x 128 pixels, 112-d"

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights' file."""
        return _weights_hash()

    @torch.no_grad()
    def __call__(self, images: Image) -> Tensor:
        """8-bit first: a picture is judged as it would be saved, real and generated alike."""
        x = to_uint8(images).to(self.device).float() / 127.5 - 1
        pooled: Tensor = _network(str(self.device)).pooled(x)
        return pooled.double().cpu()


def extract(pictures: Pictures, extractor: Extractor, batch: int = 64) -> Tensor:
    """The features of all pictures, (N, D) float64.

    Raises:
        ValueError: there are no pictures.
    """
    if len(pictures) == 0:
        raise ValueError("there are no pictures to take features of")
    return torch.cat([extractor(images) for images in in_batches(pictures, batch)])


def in_batches(pictures: Pictures, batch: int) -> Iterator[Tensor]:
    """All pictures in order, `batch` at a time."""
    for first in range(0, len(pictures), batch):
        yield pictures[torch.arange(first, min(first + batch, len(pictures)))]


@cache
def _network(device: str) -> Lite0Features:
    return Lite0Features().eval().to(device)


@cache
def _weights_hash() -> str:
    return hashlib.sha256((resources.files("calotype.data") / "embedded" / WEIGHTS).read_bytes()).hexdigest()

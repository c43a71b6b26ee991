"""What comes with a picture in a batch: layouts, label maps, its small and bad version, holes, ...

Every companion makes one entry of a batch from a cut, so that it shows the same part of the picture and is mirrored
with it. What is random in it depends on seed, sample, epoch and purpose alone. Companions run in the threads that
decode: numpy and Pillow there, tensors only when a batch is put together.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calotype.data.degradations.base import Degradation
from calotype.data.images import Pixels, to_tensor
from calotype.data.masks.base import MaskGenerator
from calotype.data.source import Source
from calotype.data.view import Cut
from calotype.layout import Layout
from calotype.rng import fold

Random = Callable[[str], np.random.Generator]
"""purpose -> a generator for it at this sample's position."""


def random_at(seed: int, sample: int, epoch: int) -> Random:
    """The random numbers of a sample in an epoch."""
    return lambda purpose: np.random.default_rng(fold(seed, purpose, sample, epoch))


class Companion(Protocol):
    """An entry of a batch, besides captions and labels."""

    @abstractmethod
    def of(self, cut: Cut, random: Random) -> Any:
        """What it is for one picture; no tensor."""

    @abstractmethod
    def stack(self, values: Sequence[Any]) -> Any:
        """What it is for a batch."""


class OfColours(Companion, Protocol):
    """A picture for each picture."""

    def stack(self, values: Sequence[Pixels]) -> Tensor:
        """(B, 3, H, W) in [-1, 1]."""
        return to_tensor(np.stack(values))


class OfNumbers(Companion, Protocol):
    """A number for every pixel."""

    def stack(self, values: Sequence[Pixels]) -> Tensor:
        """(B, H, W) uint8."""
        return torch.from_numpy(np.stack(values))


@dataclass(frozen=True)
class Pictures(OfColours):
    """The picture itself: (B, 3, H, W) in [-1, 1]."""

    def of(self, cut: Cut, random: Random) -> Pixels:
        return cut.pixels


@dataclass(frozen=True)
class Layouts(Companion):
    """Its boxes: a list of B `Layout`s, each in an order drawn anew, for orders of a data set mean something."""

    def of(self, cut: Cut, random: Random) -> Layout:
        order = random("layout").permutation(len(cut.layout.boxes))
        return replace(cut.layout, boxes=tuple(cut.layout.boxes[k] for k in order))

    def stack(self, values: Sequence[Layout]) -> list[Layout]:
        return list(values)


@dataclass(frozen=True)
class BoxMaps(OfNumbers):
    """Its boxes as a label map: (B, H, W) uint8."""

    def of(self, cut: Cut, random: Random) -> Pixels:
        height, width, _ = cut.pixels.shape
        return cut.layout.painted(height, width)


@dataclass(frozen=True)
class LabelMaps(OfNumbers):
    """The area of every pixel: (B, H, W) uint8."""

    def of(self, cut: Cut, random: Random) -> Pixels:
        assert cut.label_map is not None  # the source has areas
        return cut.label_map


@dataclass(frozen=True)
class ConditioningImages(OfColours):
    """The picture that it is made from: (B, 3, H, W) in [-1, 1]."""

    def of(self, cut: Cut, random: Random) -> Pixels:
        assert cut.conditioning_image is not None  # the source is paired
        return cut.conditioning_image


@dataclass(frozen=True)
class Holes(Companion):
    """Where it is to be completed: (B, 1, H, W) bool, TRUE IN THE HOLE.

    Args:
        mask: makes holes.
    """

    mask: MaskGenerator

    def of(self, cut: Cut, random: Random) -> NDArray[np.bool_]:
        height, width, _ = cut.pixels.shape
        return self.mask(height, width, random("hole"))

    def stack(self, values: Sequence[NDArray[np.bool_]]) -> Tensor:
        return torch.from_numpy(np.stack(values))[:, None]


@dataclass(frozen=True)
class NoiseLevels(Companion):
    """How much noise lies over the low-resolution picture: (B,) uniform in [0, most].

    Args:
        most: standard deviation of the strongest noise, in [0, 1].
    """

    most: float

    def of(self, cut: Cut, random: Random) -> float:
        return float(random("noise level").uniform(0, self.most))

    def stack(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values)


@dataclass(frozen=True)
class LowResolutions(Companion):
    """It, smaller and worse: (B, 3, H / factor, W / factor) in [-1, 1].

    With `noise` above 0, sqrt(1 - s^2) x + s eps, s the noise level of the sample: conditioning augmentation, Ho et al.
    2021, https://arxiv.org/abs/2106.15282, section 4.2.

    Args:
        degradation: makes it small.
        noise: the highest noise level.
    """

    degradation: Degradation
    noise: float = 0.0

    def of(self, cut: Cut, random: Random) -> NDArray[np.float32]:
        small = self.degradation(np.ascontiguousarray(cut.pixels), random("degradation"))
        x = small.astype(np.float32) / np.float32(127.5) - 1
        if self.noise:
            s = NoiseLevels(self.noise).of(cut, random)
            x = np.float32((1 - s * s) ** 0.5) * x + s * random("noise").standard_normal(x.shape, np.float32)
        return np.asarray(x, np.float32)

    def stack(self, values: Sequence[NDArray[np.float32]]) -> Tensor:
        return torch.from_numpy(np.stack(values)).movedim(-1, 1).contiguous()


def companions_of(
    source: Source, degradation: Degradation | None = None, noise: float = 0.0, mask: MaskGenerator | None = None
) -> dict[str, Companion]:
    """Entry -> the companion that makes it, of all that a source's pictures can have.

    Args:
        degradation: how they are made small; None = there are no low-resolution pictures.
        noise: the highest noise level over those.
        mask: where they have holes; None = there are none.
    """
    found: dict[str, Companion] = {"image": Pictures(), "reference": Pictures()}
    if source.objects:
        found |= {"layout": Layouts(), "box_map": BoxMaps()}
    if source.areas:
        found["label_map"] = LabelMaps()
    if source.paired:
        found["conditioning_image"] = ConditioningImages()
    if degradation is not None:
        found["low_resolution"] = LowResolutions(degradation, noise)
        if noise:
            found["noise_level"] = NoiseLevels(noise)
    if mask is not None:
        found["hole"] = Holes(mask)
    return found


@dataclass(frozen=True)
class Offer:
    """What can be wished for, going by a source and the companions of its pictures."""

    source: Source
    companions: Mapping[str, Companion]

    @property
    def classes(self) -> Sequence[str]:
        """Of the pictures."""
        return self.source.classes

    @property
    def objects(self) -> Sequence[str]:
        """Classes of what boxes hold."""
        return self.source.objects

    @property
    def areas(self) -> Sequence[str]:
        """Classes of the pixels of label maps."""
        return self.source.areas

    @property
    def shrinks(self) -> int:
        """How many times smaller its low-resolution pictures are; 1 where there are none."""
        low = self.companions.get("low_resolution")
        return low.degradation.factor if isinstance(low, LowResolutions) else 1

    @property
    def entries(self) -> Collection[str]:
        """Of batches."""
        return {"caption", "label", *self.companions}

    def captions(self) -> Sequence[str]:
        """All of them."""
        return self.source.captions()

    def read_by(self, reads: Collection[str]) -> dict[str, Companion]:
        """The companions among these entries."""
        return {name: companion for name, companion in self.companions.items() if name in reads}

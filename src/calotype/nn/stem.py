"""How a network meets its input: the first layer, and the last.

Maps at full resolution cost most of the time of a network on pixels and help little (Hoogeboom et al. 2023,
https://arxiv.org/abs/2301.11093, section 3.3): a stem may make them smaller at once, and the last layer undoes it. It
is part of the network; diffusion knows nothing of it and stays where it is.

A network that predicts noise or velocity gives back what it cannot know: all of the noise, every number of it. So its
first maps need at least as many channels as the stem makes numbers of each place, C factor^2. Narrower ones leave noise
in every sample, unless the network predicts x_0.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from calotype.nn.layers import zero
from calotype.nn.wavelet import Analysis, Synthesis
from calotype.registry import Registry


class Stem(Protocol):
    """The outermost layers of a network."""

    @property
    @abstractmethod
    def factor(self) -> int:
        """How many times smaller than the input the network's first maps are; the input's sides are multiples of it."""

    @abstractmethod
    def enter(self, incoming: int, width: int) -> nn.Module:
        """The first layer: (B, incoming, H, W) -> (B, width, H / factor, W / factor)."""

    @abstractmethod
    def leave(self, width: int, outgoing: int) -> nn.Module:
        """The last layer, all zeros at first: (B, width, H / factor, W / factor) -> (B, outgoing, H, W)."""


stems: Registry[Stem] = Registry("stem", "calotype.nn")


@stems.register("convolution")
@dataclass(frozen=True)
class Convolution(Stem):
    """A 3x3 convolution at full resolution, as in Stable Diffusion: right for latents, which are small already."""

    @property
    def factor(self) -> int:
        """1."""
        return 1

    def enter(self, incoming: int, width: int) -> nn.Module:
        """A 3x3 convolution."""
        return nn.Conv2d(incoming, width, 3, padding=1)

    def leave(self, width: int, outgoing: int) -> nn.Module:
        """A 3x3 convolution."""
        return zero(nn.Conv2d(width, outgoing, 3, padding=1))


@stems.register("patches")
@dataclass(frozen=True)
class Patches(Stem):
    """Squares of size x size pixels, each by itself: a strided convolution in, a transposed one out.

    The simplest way down; Hoogeboom et al. find it slightly worse than the wavelet.

    Args:
        size: pixels of a patch's side, 2 ... 16.

    Raises:
        ValueError: another size.
    """

    size: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.size <= 16:
            raise ValueError(f"size must lie in 2 ... 16 pixels, got {self.size}; for 1, take the stem 'convolution'")

    @property
    def factor(self) -> int:
        """The patch's side."""
        return self.size

    def enter(self, incoming: int, width: int) -> nn.Module:
        """A convolution of `size` with stride `size`."""
        return nn.Conv2d(incoming, width, self.size, stride=self.size)

    def leave(self, width: int, outgoing: int) -> nn.Module:
        """A transposed convolution of `size` with stride `size`."""
        return zero(nn.ConvTranspose2d(width, outgoing, self.size, stride=self.size))


@stems.register("wavelet")
@dataclass(frozen=True)
class Wavelet(Stem):
    """Sub-bands of the 5/3 wavelet on channels, its inverse at the end: nothing is lost on the way. See `wavelet`.

    Args:
        levels: 1 ... 3; maps become 2^levels times smaller. The paper takes one or two.
        gain: how much louder the network hears the details than the coarse picture. Details of pictures are faint, and
            so is the little noise that is to be found in them near t = 0: with a gain of 4 a network of the recipe
            `pixel-emoji` is after 200 steps of 8 pictures where it is after 400 with 1 (loss, one seed).

    Raises:
        ValueError: another number of levels, or a gain that is not positive.
    """

    levels: int = 1
    gain: float = 4.0

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 3:
            raise ValueError(f"levels must lie in 1 ... 3, got {self.levels}")
        if not 0 < self.gain <= 1000:
            raise ValueError(f"gain must lie in (0, 1000], got {self.gain}; 4 is usual, 1 leaves the bands as they are")

    @property
    def factor(self) -> int:
        """2, 4 or 8."""
        return 1 << self.levels

    def enter(self, incoming: int, width: int) -> nn.Module:
        """The transform, then a 3x3 convolution."""
        return nn.Sequential(
            Analysis(self.levels, self.gain), nn.Conv2d(4**self.levels * incoming, width, 3, padding=1)
        )

    def leave(self, width: int, outgoing: int) -> nn.Module:
        """A 3x3 convolution, then the inverse transform."""
        return nn.Sequential(zero(nn.Conv2d(width, 4**self.levels * outgoing, 3, padding=1)), Synthesis(self.levels))

"""Feature maps that are read region by region.

A `Map` is anything that can tell its values in a box: a picture, a stored map, or a *view*, which computes them from
another map when they are asked for. Views compose as layers do, and nothing is held between two readings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Box:
    """Rows top ... bottom - 1 and columns left ... right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    def within(self, height: int, width: int) -> Box:
        """The part that lies in a map of this size."""
        return Box(max(0, self.top), max(0, self.left), min(height, self.bottom), min(width, self.right))

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, as indices."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Map(ABC):
    """Values at height x width positions.

    Args:
        height, width: its size.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    @abstractmethod
    def read(self, box: Box) -> Tensor:
        """The values (1, C, h, w) in a box that lies in the map; not to be written to."""


class Picture(Map):
    """A map that a function tells.

    Args:
        height, width: its size.
        function: box -> (1, C, h, w).
    """

    def __init__(self, height: int, width: int, function: Callable[[Box], Tensor]) -> None:
        super().__init__(height, width)
        self._function = function

    def read(self, box: Box) -> Tensor:
        """What the function says."""
        return self._function(box)

    @classmethod
    def of(cls, x: Tensor) -> Picture:
        """A tensor (1, C, H, W)."""
        return cls(x.shape[2], x.shape[3], lambda box: x[:, :, *box.slices])


class Pointwise(Map):
    """f(x) where f treats every position by itself."""

    def __init__(self, function: Callable[[Tensor], Tensor], x: Map) -> None:
        super().__init__(x.height, x.width)
        self._function, self._x = function, x

    def read(self, box: Box) -> Tensor:
        """f of the same box."""
        return self._function(self._x.read(box))


class Sum(Map):
    """x + y."""

    def __init__(self, x: Map, y: Map) -> None:
        super().__init__(x.height, x.width)
        self._x, self._y = x, y

    def read(self, box: Box) -> Tensor:
        """Both, added."""
        return self._x.read(box) + self._y.read(box)


class Extended(Map):
    """x continued to the right and below to a larger size: mirrored, or its last row and column repeated where x is too
    small to be mirrored. The same as `F.pad` with "reflect" or "replicate" for both sides."""

    def __init__(self, x: Map, height: int, width: int) -> None:
        super().__init__(height, width)
        self._x = x
        self._mirrored = height - x.height < x.height and width - x.width < x.width

    def read(self, box: Box) -> Tensor:
        """The box, from the smallest one in x that holds what it shows."""
        rows = self._places(box.top, box.bottom, self._x.height)
        columns = self._places(box.left, box.right, self._x.width)
        top, left = int(rows.min()), int(columns.min())
        x = self._x.read(Box(top, left, int(rows.max()) + 1, int(columns.max()) + 1))
        return x.index_select(2, (rows - top).to(x.device)).index_select(3, (columns - left).to(x.device))

    def _places(self, start: int, stop: int, size: int) -> Tensor:
        i = torch.arange(start, stop)
        return torch.where(i < size, i, 2 * (size - 1) - i if self._mirrored else size - 1)


class Doubled(Map):
    """x with every position twice in both directions: nearest-neighbour enlargement by 2."""

    def __init__(self, x: Map) -> None:
        super().__init__(2 * x.height, 2 * x.width)
        self._x = x

    def read(self, box: Box) -> Tensor:
        """The box, cut from the doubled smallest box that covers it."""
        top, left = box.top // 2, box.left // 2
        x = self._x.read(Box(top, left, -(-box.bottom // 2), -(-box.right // 2)))
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x[:, :, box.top - 2 * top :, box.left - 2 * left :][:, :, : box.height, : box.width]


class Convolved(Map):
    """A convolution of x, which is zero outside.

    Args:
        conv: the layer, of any kernel, stride and zero padding.
        x: what it reads.
        height, width: of the result, where they are not those of x. Zeros needed beyond the layer's own padding, as
            autoencoders put them right and below before a stride, are supplied.
    """

    def __init__(self, conv: nn.Conv2d, x: Map, height: int | None = None, width: int | None = None) -> None:
        super().__init__(x.height if height is None else height, x.width if width is None else width)
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros" or conv.dilation != (1, 1):
            raise TypeError(f"only plain convolutions with zero padding go in tiles, got {conv}")
        self._conv, self._x = conv, x
        self._padding: tuple[int, ...] = conv.padding

    def read(self, box: Box) -> Tensor:
        """The convolution of the box and its halo."""
        conv, (down, right) = self._conv, self._padding
        wanted = Box(
            box.top * conv.stride[0] - down,
            box.left * conv.stride[1] - right,
            (box.bottom - 1) * conv.stride[0] - down + conv.kernel_size[0],
            (box.right - 1) * conv.stride[1] - right + conv.kernel_size[1],
        )
        there = wanted.within(self._x.height, self._x.width)
        x = self._x.read(there)
        if there != wanted:
            x = F.pad(
                x,
                (
                    there.left - wanted.left,
                    wanted.right - there.right,
                    there.top - wanted.top,
                    wanted.bottom - there.bottom,
                ),
            )
        # Channels first, as in the untiled network: for narrow layers on CPUs that is several times faster.
        return F.conv2d(x.contiguous(), conv.weight, conv.bias, conv.stride, groups=conv.groups)

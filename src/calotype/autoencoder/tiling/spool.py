"""Where feature maps wait between two sweeps, and what is known of them.

Stored maps lie position by position, channels innermost: a row of a box is one piece of a file, and attention's tokens
lie next to one another. Files are read and written, not mapped into memory: mapped pages count as the process's own.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor

from calotype.autoencoder.tiling.maps import Box, Map
from calotype.errors import DiskFull

Write = Callable[[Box, Tensor], None]
"""Takes the values (1, C, h, w) of a box."""


class Moments:
    """Mean and variance of every channel over a map, from its tiles.

    Tiles' own sums in float32 about their own means, merged in float64: Chan et al. 1979, Updating formulae and a
    pairwise algorithm for computing sample variances, eq. (2.1):
    M2 = M2_a + M2_b + (mean_b - mean_a)^2 n_a n_b / (n_a + n_b). Sums of squares about zero would lose the variance of
    channels that lie far from zero.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = self.m2 = torch.zeros((), dtype=torch.float64)

    def add(self, tile: Tensor) -> None:
        """Count a tile (1, C, h, w)."""
        x = tile.movedim(1, -1).flatten(0, 2).float()
        n, about = len(x), x.mean(0)
        x = x - about
        # `about` is the mean but for rounding, which the first sum repairs.
        first, second = x.sum(0).cpu().double(), x.square_().sum(0).cpu().double()
        mean, m2 = about.cpu().double() + first / n, second - first.square() / n
        total, apart = self.n + n, mean - self.mean
        self.m2 = self.m2 + m2 + apart.square() * (self.n * n / total)
        self.mean = self.mean + apart * (n / total)
        self.n = total

    def groups(self, groups: int) -> tuple[Tensor, Tensor]:
        """Mean and (biased) variance over each of so many groups of neighbouring channels, (groups,) float64."""
        means = self.mean.view(groups, -1)
        mean = means.mean(1)
        within = self.m2.view(groups, -1).mean(1) / self.n
        return mean, within + (means - mean[:, None]).square().mean(1)


class _Store(Protocol):
    """Keeps (height, width, channels) values."""

    def get(self, box: Box) -> Tensor: ...

    def put(self, box: Box, tile: Tensor) -> None: ...

    def close(self) -> None: ...


class _InMemory:
    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        self._values = torch.empty(shape, dtype=dtype)

    def get(self, box: Box) -> Tensor:
        return self._values[box.slices]

    def put(self, box: Box, tile: Tensor) -> None:
        self._values[box.slices] = tile

    def close(self) -> None:
        del self._values


class _OnDisk:
    """A temporary file without a name, so that it is gone however the process ends."""

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        _, self._width, self._channels = shape
        self._dtype = dtype
        self._position = self._channels * dtype.itemsize
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # it outlives this call

    def get(self, box: Box) -> Tensor:
        tile = torch.empty(box.height, box.width, self._channels, dtype=self._dtype)
        for at, piece in self._pieces(box, tile):
            self._file.seek(at)
            while piece:  # one call may give less than was asked for
                n = self._file.readinto(piece)
                if not n:
                    raise OSError(errno.EIO, "a temporary file of feature maps ended early")
                piece = piece[n:]
        return tile

    def put(self, box: Box, tile: Tensor) -> None:
        for at, piece in self._pieces(box, tile.to("cpu", self._dtype).contiguous()):
            try:
                self._file.seek(at)
                while piece:
                    piece = piece[self._file.write(piece) :]
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise DiskFull(
                    f"no room left in {tempfile.gettempdir()} for feature maps; free some space, or set TMPDIR to a "
                    "folder on another disk"
                ) from error

    def close(self) -> None:
        self._file.close()

    def _pieces(self, box: Box, tile: Tensor) -> Iterator[tuple[int, memoryview]]:
        """Place in the file and bytes of each contiguous piece of a tile."""
        data = tile.view(torch.uint8).flatten().numpy().data
        row = box.width * self._position
        for k in range(box.height):
            yield ((box.top + k) * self._width + box.left) * self._position, data[k * row : (k + 1) * row]


class Spool(Map):
    """A stored map.

    Args:
        room: who made it and takes its memory back.
        height, width, channels, dtype: what it holds.
        in_memory: or in a file.
    """

    moments: Moments

    def __init__(
        self, room: Room, height: int, width: int, channels: int, dtype: torch.dtype, *, in_memory: bool
    ) -> None:
        super().__init__(height, width)
        self.channels, self.dtype, self.in_memory = channels, dtype, in_memory
        self.bytes = height * width * channels * dtype.itemsize
        self._room = room
        self._store: _Store = (_InMemory if in_memory else _OnDisk)((height, width, channels), dtype)

    def read(self, box: Box) -> Tensor:
        """The values (1, C, h, w), on the device that computes."""
        return self._store.get(box).to(self._room.device).movedim(-1, 0)[None]

    def write(self, box: Box, tile: Tensor) -> None:
        """Store the values (1, C, h, w) of a box."""
        self._store.put(box, tile[0].movedim(0, -1))

    def close(self) -> None:
        """Give memory or file back; closing twice is no error."""
        if self in self._room.spools:
            self._room.spools.remove(self)
            self._store.close()


class Room:
    """What one pass through a network has to work with; closes its stored maps at the end.

    Args:
        tile: side of a tile in pixels of the picture; at a level with 1/s of its resolution a tile has tile / s.
        memory: bytes that all stored maps may take together; further ones go to temporary files.
        height: of the picture.
        device: that computes.
    """

    def __init__(self, tile: int, memory: int, height: int, device: torch.device) -> None:
        self.tile, self.memory, self.height, self.device = tile, memory, height, device
        self.spools: set[Spool] = set()

    def __enter__(self) -> Room:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spool in [*self.spools]:
            spool.close()

    def boxes(self, x: Map) -> Iterator[Box]:
        """Tiles that cover a map, row by row."""
        side = self.tile * x.height // self.height
        for top in range(0, x.height, side):
            for left in range(0, x.width, side):
                yield Box(top, left, top + side, left + side).within(x.height, x.width)

    def fill(self, x: Map, write: Write) -> None:
        """Compute a map tile by tile."""
        for box in self.boxes(x):
            write(box, x.read(box))

    def keep(self, x: Map, over: Spool | None = None) -> Spool:
        """A stored map with the values of x, and their moments; x itself if it is stored already.

        Args:
            x: what to store.
            over: a map that is needed no more once x is known, and that x reads at its own positions only. x takes its
                place where it has the same shape; otherwise it is closed.
        """
        if isinstance(x, Spool):
            return x
        moments = Moments()
        kept: Spool | None = None
        for box in self.boxes(x):
            tile = x.read(box)
            kept = kept or self._place(x, tile.shape[1], tile.dtype, over)
            kept.write(box, tile)
            moments.add(tile)
        assert kept is not None  # a map has at least one tile
        kept.moments = moments
        if over is not None and over is not kept:
            over.close()
        return kept

    def _place(self, x: Map, channels: int, dtype: torch.dtype, over: Spool | None) -> Spool:
        shape = (x.height, x.width, channels, dtype)
        if over is not None and (over.height, over.width, over.channels, over.dtype) == shape:
            return over
        taken = sum(spool.bytes for spool in self.spools if spool.in_memory)
        wanted = x.height * x.width * channels * dtype.itemsize
        spool = Spool(self, *shape, in_memory=taken + wanted <= self.memory)
        self.spools.add(spool)
        return spool

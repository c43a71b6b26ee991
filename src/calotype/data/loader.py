"""From a source to an endless, repeatable stream of batches.

The batch of a step is a function of (source, seed, step): the order is `Order`'s, and crop and mirror of a picture are
drawn by (seed, sample, epoch). Decoded pictures of small sets stay in memory as bytes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from calotype.data.images import Pixels, place, scaled, square, to_tensor
from calotype.data.order import BalancedOrder
from calotype.data.source import Source
from calotype.errors import BadImage, UserError
from calotype.rng import fold
from calotype.types import Batch

T = TypeVar("T")

BAD_SHARE = 0.1
"""A run aborts when more than this share of its pictures cannot be read."""

LONGEST = 4
"""A picture whose sides differ more than this is cut before it is scaled, and not kept for other crops."""


@dataclass(frozen=True)
class Augment:
    """What may happen to a picture in training.

    Args:
        crop: cut the square at a random place along the longer side instead of the middle.
        flip: mirror half of the time.
    """

    crop: bool = False
    flip: bool = False

    def draw(self, seed: int, sample: int, epoch: int) -> tuple[float, float, bool]:
        """Place (x, y) of the crop in [0, 1] and whether to mirror."""
        bits = fold(seed, "augment", sample, epoch)
        x, y = (bits & 0xFFFF) / 0xFFFF, (bits >> 16 & 0xFFFF) / 0xFFFF
        return (
            (x, y, self.flip and bool(bits >> 32 & 1)) if self.crop else (0.5, 0.5, self.flip and bool(bits >> 32 & 1))
        )


class Bad:
    """The pictures that could not be read; raises when they are too many.

    Args:
        total: number of pictures in the source, or in the whole that it is a part of.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.messages: dict[int, str] = {}

    def add(self, index: int, error: BadImage) -> None:
        """Count one; raises `UserError` with examples when there are too many."""
        self.messages[index] = str(error)
        if len(self.messages) > BAD_SHARE * self.total:
            examples = "; ".join(list(self.messages.values())[:3])
            raise UserError(
                f"{len(self.messages)} of {self.total} pictures cannot be used, more than {BAD_SHARE:.0%}; "
                f"remove or replace them (`calotype data show` lists all): {examples}"
            )


class Loader:
    """Batches of a source.

    Args:
        source: the pictures.
        side: pixels of the square they are brought to.
        batch_size: exact, also for sources smaller than that.
        seed: of order and augmentation.
        augment: see `Augment`.
        balance: see `BalancedOrder`.
        cache_bytes: decoded pictures are kept in memory up to this.
        threads: for decoding.
    """

    def __init__(
        self,
        source: Source,
        side: int,
        batch_size: int,
        seed: int = 0,
        augment: Augment | None = None,
        balance: float = 0.0,
        *,
        cache_bytes: int = 2 << 30,
        threads: int = 4,
    ) -> None:
        self.source, self.side, self.batch_size, self.seed = source, side, batch_size, seed
        self.augment = Augment() if augment is None else augment
        self.bad = Bad(source.total)
        self._captions, self._labels = source.captions(), torch.tensor(source.labels())
        self.order = BalancedOrder(seed, source.labels(), balance)
        self._cache: dict[int, Pixels] = {}
        self._room, self._lock = cache_bytes, threading.Lock()
        self._threads = threads

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches of step `start`, `start` + 1, ...; the next two are prepared in the background.

        Raises `UserError` when too many pictures are bad."""
        with (
            ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool,
            closing(ahead(lambda step: self._cut(step, pool), start)) as cuts,
        ):
            for ids, epochs, pixels in cuts:
                # Tensors are made here, not in the background: a second thread that runs PyTorch's parallel loops has
                # OpenMP workers of its own, and with more workers than cores all of them sleep between loops. That
                # made training on two cores slower by 40 %.
                yield self._collect(ids, epochs, pixels)

    def _cut(self, step: int, pool: ThreadPoolExecutor) -> tuple[list[int], np.ndarray, Pixels]:
        """Ids, epochs and pixels of a batch; no tensor in sight."""
        ids, epochs = self.order.batch(step, self.batch_size)
        drawn = [self.augment.draw(self.seed, int(i), int(e)) for i, e in zip(ids, epochs, strict=True)]
        cells = list(pool.map(lambda job: self._picture(int(job[0]), *job[1]), zip(ids, drawn, strict=True)))
        return [i for i, _ in cells], epochs, np.stack([pixels for _, pixels in cells])

    def _collect(self, ids: list[int], epochs: np.ndarray, pixels: Pixels) -> Batch:
        index = torch.tensor(ids)
        return {
            "index": index,
            "epoch": torch.from_numpy(epochs),
            "image": to_tensor(pixels),
            "caption": [self._captions[i] for i in ids],
            "label": self._labels[index],
        }

    def _picture(self, index: int, x: float, y: float, mirror: bool) -> tuple[int, Pixels]:
        """The square picture (side, side, 3) of a sample, or of the next good one after a bad one."""
        for offset in range(len(self.source)):
            i = (index + offset) % len(self.source)
            if i in self.bad.messages:
                continue
            try:
                pixels = self._square(i, x, y)
            except BadImage as error:
                self.bad.add(i, error)
                continue
            return i, pixels[:, ::-1] if mirror else pixels
        raise UserError(f"none of the {len(self.source)} pictures of {self.source.name} can be read")

    def _square(self, index: int, x: float, y: float) -> Pixels:
        # What is kept is all that any epoch may cut from. Kept or not, the pixels are the same.
        pixels = self._cache.get(index)
        if pixels is None:
            image = self.source[index].image
            if not self.augment.crop or max(image.size) > LONGEST * min(image.size):
                pixels = np.asarray(square(image, self.side, x, y))
            else:
                pixels = np.asarray(scaled(image, self.side))
            if not self.augment.crop or max(image.size) <= LONGEST * min(image.size):
                self._keep(index, pixels)
        height, width, _ = pixels.shape
        left, top = place((width, height), self.side, x, y)
        return pixels[top : top + self.side, left : left + self.side]

    def _keep(self, index: int, pixels: Pixels) -> None:
        with self._lock:
            if index not in self._cache and self._room >= pixels.nbytes:
                self._room -= pixels.nbytes
                self._cache[index] = pixels


def pictures(
    source: Source,
    side: int,
    batch_size: int = 64,
    *,
    rows: range | None = None,
    bad: Bad | None = None,
    threads: int = 2,
) -> Iterator[Batch]:
    """Every readable picture of a source once, in order, centre-cropped; "index", "image", "caption", "label".

    Args:
        batch_size: of every batch but the last.
        rows: only these of the source; all by default.
        bad: counts the others; give one to several calls that read parts of a source.
        threads: for decoding.

    Raises:
        UserError: too many pictures are bad.
    """
    bad = Bad(source.total) if bad is None else bad
    labels, captions = source.labels(), source.captions()

    def read(i: int) -> Pixels | BadImage:
        try:
            return np.asarray(square(source[i].image, side))
        except BadImage as error:
            return error

    def batch(good: list[tuple[int, Pixels]]) -> Batch:
        ids = [i for i, _ in good]
        return {
            "index": torch.tensor(ids),
            "image": to_tensor(np.stack([pixels for _, pixels in good])),
            "caption": [captions[i] for i in ids],
            "label": torch.tensor([labels[i] for i in ids]),
        }

    rows = range(len(source)) if rows is None else rows
    good: list[tuple[int, Pixels]] = []
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            for i, read_as in zip(some, pool.map(read, some), strict=True):
                if isinstance(read_as, BadImage):
                    bad.add(i, read_as)
                    continue
                good.append((i, read_as))
                if len(good) == batch_size:
                    yield batch(good)
                    good = []
    if good:
        yield batch(good)


def ahead(make: Callable[[int], T], start: int, depth: int = 2) -> Generator[T, None, None]:
    """make(start), make(start + 1), ..., computed up to `depth` ahead in one background thread.

    An exception in `make` is raised here, in its place; closing the iterator ends the thread."""
    ready: queue.Queue[T | BaseException] = queue.Queue(depth)
    closed = threading.Event()

    def work() -> None:
        step = start
        while not closed.is_set():
            try:
                item: T | BaseException = make(step)
            except BaseException as error:
                item = error
            while not closed.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if isinstance(item, BaseException):
                return
            step += 1

    thread = threading.Thread(target=work, name="loader", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()

"""From a source to an endless, repeatable stream of batches.

The batch of a step is a function of (source, seed, step): the order is `Order`'s, and crop and mirror of a picture are
drawn by (seed, sample, epoch), as is what comes with it (`companions`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

import numpy as np
import torch

from calotype.data.companions import Companion, Pictures, random_at
from calotype.data.order import BalancedOrder
from calotype.data.source import Source
from calotype.data.view import Augment, Cut, Cutter, View
from calotype.errors import BadImage, UserError
from calotype.types import Batch

T = TypeVar("T")

BAD_SHARE = 0.1
"""A run aborts when more than this share of its pictures cannot be read."""


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


Row = tuple[int, dict[str, Any]]
"""A sample, and its entries as the companions made them."""


def collected(rows: Sequence[Row], companions: Mapping[str, Companion]) -> dict[str, Any]:
    """The companions' entries of a batch, and "index"."""
    entries = {name: c.stack([made[name] for _, made in rows]) for name, c in companions.items()}
    return {"index": torch.tensor([i for i, _ in rows])} | entries


class Loader:
    """Batches of a source.

    Args:
        source: the pictures.
        side: pixels of the square they are brought to.
        batch_size: exact, also for sources smaller than that.
        seed: of order, augmentation and companions.
        augment: see `Augment`.
        balance: see `BalancedOrder`.
        companions: more entries besides "image", "caption" and "label".
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
        companions: Mapping[str, Companion] | None = None,
        cache_bytes: int = 2 << 30,
        threads: int = 4,
    ) -> None:
        self.source, self.side, self.batch_size, self.seed = source, side, batch_size, seed
        self.augment = Augment() if augment is None else augment
        self.bad = Bad(source.total)
        self._captions, self._labels = source.captions(), torch.tensor(source.labels())
        self.order = BalancedOrder(seed, source.labels(), balance)
        self._companions: dict[str, Companion] = {"image": Pictures(), **(companions or {})}
        self._cutter = Cutter(source, side, self.augment.crop, cache_bytes)
        self._threads = threads

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches of step `start`, `start` + 1, ...; the next two are prepared in the background.

        Raises `UserError` when too many pictures are bad."""
        with (
            ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool,
            closing(ahead(lambda step: self._cut(step, pool), start)) as cuts,
        ):
            for rows, epochs in cuts:
                # Tensors are made here, not in the background: a second thread that runs PyTorch's parallel loops has
                # OpenMP workers of its own, and with more workers than cores all of them sleep between loops. That
                # made training on two cores slower by 40 %.
                yield self._collect(rows, epochs)

    def _cut(self, step: int, pool: ThreadPoolExecutor) -> tuple[list[Row], np.ndarray]:
        """The rows of a batch, and their epochs; no tensor in sight."""
        ids, epochs = self.order.batch(step, self.batch_size)
        return list(pool.map(self._row, ids.tolist(), epochs.tolist())), epochs

    def _collect(self, rows: list[Row], epochs: np.ndarray) -> Batch:
        entries = collected(rows, self._companions)
        return {
            **entries,
            "epoch": torch.from_numpy(epochs),
            "caption": [self._captions[i] for i, _ in rows],
            "label": self._labels[entries["index"]],
        }

    def _row(self, index: int, epoch: int) -> Row:
        """A sample in an epoch, or in its place the next good one after a bad one."""
        view = self.augment.draw(self.seed, index, epoch)
        for offset in range(len(self.source)):
            i = (index + offset) % len(self.source)
            if i in self.bad.messages:
                continue
            try:
                cut = self._cutter(i, view)
            except BadImage as error:
                self.bad.add(i, error)
                continue
            random = random_at(self.seed, index, epoch)
            return i, {name: c.of(cut, random) for name, c in self._companions.items()}
        raise UserError(f"none of the {len(self.source)} pictures of {self.source.name} can be read")


def pictures(
    source: Source,
    side: int,
    batch_size: int = 64,
    *,
    rows: range | None = None,
    companions: Mapping[str, Companion] | None = None,
    bad: Bad | None = None,
    threads: int = 2,
) -> Iterator[Batch]:
    """Every readable picture of a source once, in order, centre-cropped; "index", "image", "caption", "label".

    Args:
        batch_size: of every batch but the last.
        rows: only these of the source; all by default.
        companions: more entries.
        bad: counts the others; give one to several calls that read parts of a source.
        threads: for decoding.

    Raises:
        UserError: too many pictures are bad.
    """
    bad = Bad(source.total) if bad is None else bad
    labels, captions = source.labels(), source.captions()
    made: dict[str, Companion] = {"image": Pictures(), **(companions or {})}

    def read(i: int) -> Row | BadImage:
        try:
            cut, random = Cut.square(source[i], side, View()), random_at(0, i, -1)
        except BadImage as error:
            return error
        return i, {name: c.of(cut, random) for name, c in made.items()}

    def batch(good: list[Row]) -> Batch:
        entries = collected(good, made)
        return {
            **entries,
            "caption": [captions[i] for i, _ in good],
            "label": torch.tensor([labels[i] for i, _ in good]),
        }

    rows = range(len(source)) if rows is None else rows
    good: list[Row] = []
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            for i, read_as in zip(some, pool.map(read, some), strict=True):
                if isinstance(read_as, BadImage):
                    bad.add(i, read_as)
                    continue
                good.append(read_as)
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

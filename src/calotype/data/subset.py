"""A part of a source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from calotype.data.order import Order
from calotype.data.source import Record, Source


class Subset(Source):
    """The given rows of another source, in their order.

    Args:
        source: the whole.
        rows: indices into it.
        name: what the part is called.
    """

    def __init__(self, source: Source, rows: Sequence[int], name: str) -> None:
        self._source, self._rows = source, list(rows)
        self.classes, self.objects, self.areas = source.classes, source.objects, source.areas
        self.paired, self.name = source.paired, name

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def total(self) -> int:
        return self._source.total

    def __getitem__(self, index: int) -> Record:
        return self._source[self._rows[index]]

    def captions(self) -> Sequence[str]:
        captions = self._source.captions()
        return [captions[i] for i in self._rows]

    def labels(self) -> Sequence[int]:
        labels = self._source.labels()
        return [labels[i] for i in self._rows]

    def key(self, index: int) -> str:
        return self._source.key(self._rows[index])

    def fingerprint(self) -> str:
        rows = hashlib.sha256(repr(self._rows).encode()).hexdigest()[:16]
        return f"{self._source.fingerprint()}/{rows}"


def hold_out(source: Source, share: float, seed: int) -> tuple[Source, Source]:
    """A source as (what to train on, what to measure on): a random share, the same for the same seed and size.

    With a share of 0, or a source too small to give one picture away, both are the whole source."""
    n = round(share * len(source))
    if n == 0:
        return source, source
    order = Order(seed, len(source)).permutation(-1, np.arange(len(source))).tolist()
    return (
        Subset(source, sorted(order[n:]), f"{source.name} (training part)"),
        Subset(source, sorted(order[:n]), f"{source.name} (held-out part)"),
    )

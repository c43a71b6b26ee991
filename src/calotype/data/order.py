"""The order of the data: a keyed permutation of each epoch, computed, not stored.

Sample number p of a run (p = 0, 1, 2, ...) belongs to epoch p // n and is `permutation(seed, epoch)(p % n)`. Nothing
else enters, so the order is the same for any batch size, any number of workers and after any interruption; the whole
state of the loader is one integer.

The permutation is a Feistel network with cycle walking: a few rounds over the smallest even number of bits that holds
n, applied again while the result is n or more. Black & Rogaway 2002, "Ciphers with arbitrary finite domains".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calotype.rng import fold

ROUNDS = 4
SMALL_ROUNDS = 12
"""For at most 64 samples, where a round mixes at most three bits: with 4, some samples favour some places by 8 %."""
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: every input bit reaches every output bit."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * _MULTIPLIERS[0]
        x = (x ^ (x >> np.uint64(27))) * _MULTIPLIERS[1]
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Order:
    """Which sample comes when.

    Args:
        seed: the run's seed.
        n: number of samples, at least 1.
    """

    seed: int
    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"an order needs at least one sample, got {self.n}")

    def permutation(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sample ids at these positions (each in 0 ... n - 1) of an epoch."""
        bits = max(1, -(-(self.n - 1).bit_length() // 2))
        half, low = np.uint64(bits), np.uint64((1 << bits) - 1)
        rounds = SMALL_ROUNDS if bits <= 3 else ROUNDS
        keys = [np.uint64(fold(self.seed, "order", epoch, r)) for r in range(rounds)]
        out = positions.astype(np.uint64)
        walking = np.ones(out.shape, dtype=bool)
        while walking.any():
            left, right = out[walking] >> half, out[walking] & low
            for key in keys:
                left, right = right, left ^ (_mix(right ^ key) & low)
            out[walking] = (left << half) | right
            walking = out >= np.uint64(self.n)
        return out.astype(np.int64)

    def batch(self, step: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and epochs (size,) of batch number `step`; a batch may span epochs."""
        p = np.arange(step * size, (step + 1) * size, dtype=np.int64)
        epochs, positions = p // self.n, p % self.n
        ids = np.empty(size, dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            ids[here] = self.permutation(int(epoch), positions[here])
        return ids, epochs


class BalancedOrder:
    """An order in which the samples of rare classes come several times per epoch.

    A sample of a class with n_c samples comes round((n_max / n_c)^balance) times, n_max being the largest class: with
    balance 0 every sample once, with 1 every class equally often (up to rounding), with 1/2 as often as the square root
    of its size. Samples without a class come once.

    Args:
        seed: the run's seed.
        labels: class of every sample, -1 = none; at least one sample.
        balance: 0 ... 1.
    """

    def __init__(self, seed: int, labels: Sequence[int], balance: float = 0.0) -> None:
        label = np.asarray(labels, dtype=np.int64)
        counts = np.bincount(label[label >= 0], minlength=1)
        per_class = np.round((counts.max() / np.maximum(counts, 1)) ** balance).astype(np.int64)
        self.repeats = np.where(label >= 0, per_class[label], 1)
        self._ends = self.repeats.cumsum()
        self._order = Order(seed, int(self.repeats.sum()))

    def batch(self, step: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids (size,) of batch number `step`, and how often each sample was there before in the run (size,)."""
        places, epochs = self._order.batch(step, size)
        ids = np.searchsorted(self._ends, places, side="right")
        return ids, epochs * self.repeats[ids] + self._ends[ids] - 1 - places

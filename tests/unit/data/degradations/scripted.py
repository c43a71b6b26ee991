"""A generator that says what a test wants to hear."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Scripted(np.random.Generator):
    """Hands out the given numbers for `random()`, one after the other, and all else at random.

    Args:
        seed: of all else.
        random: what single calls of `random()` return; when they are used up, they are random.
    """

    def __init__(self, seed: int = 0, random: Iterable[float] = ()) -> None:
        super().__init__(np.random.PCG64(seed))
        self._next = list(random)

    def random(self, size=None, *args, **kwargs):
        if size is None and self._next:
            return self._next.pop(0)
        return super().random(size, *args, **kwargs)

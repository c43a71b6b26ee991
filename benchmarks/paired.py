"""Two ways to do the same work, timed in turns.

A machine that does other things slows down both ways alike if they alternate, so the ratio of two neighbouring times
says more than either time. Reported are medians over the pairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

Work = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """Seconds per call: medians of both, the median of their ratios, and the ratios' quartiles."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    rounds: int


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(ours: Work, theirs: Work, budget: float, least: int = 3, most: int = 25) -> Pair:
    """Alternate A B A B for about `budget` seconds, at least `least` and at most `most` rounds.

    The ratio is theirs / ours: above 1, ours is faster.
    """
    ours()  # the first call prepares kernels and memory
    theirs()
    a: list[float] = []
    b: list[float] = []
    end = time.perf_counter() + budget
    while len(a) < least or (len(a) < most and time.perf_counter() < end):
        a.append(_seconds(ours))
        b.append(_seconds(theirs))
    ratios = sorted(y / x for x, y in zip(a, b, strict=True))
    n = len(ratios)
    return Pair(median(a), median(b), median(ratios), ratios[n // 4], ratios[-1 - n // 4], n)

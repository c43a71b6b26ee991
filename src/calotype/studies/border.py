"""Reading a curve of rate and distortion: where the perceptual distance comes to a level, and what it is at a rate.

The border between semantic and perceptual compression is a level of the perceptual distance. What is sent before the
curve comes to it says what is in the picture, what is sent behind it nobody is to see. Rombach et al. 2022,
https://arxiv.org/abs/2112.10752, figure 2, draw it by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from calotype.evaluation.rate_distortion import RateDistortion

SETTLED = 0.95
"""Which part of all that the perceptual distance falls by counts as its fall."""


def crossing(rate: Sequence[float], value: Sequence[float], level: float) -> float | None:
    """The rate from which on a curve stays at `level` or below, linear between its points.

    Args:
        rate: not decreasing.
        value: as many.

    Returns:
        The first rate if the curve never is above; None if it ends above.
    """
    above = [k for k, v in enumerate(value) if v > level]
    if not above:
        return rate[0]
    k = above[-1]
    if k == len(value) - 1:
        return None
    return rate[k] + (rate[k + 1] - rate[k]) * (value[k] - level) / (value[k] - value[k + 1])


def at_rate(rate: Sequence[float], value: Sequence[float], wanted: float) -> float | None:
    """The value of a curve at a rate, linear between its points; None beyond its ends."""
    for (r, v), (s, w) in pairwise(zip(rate, value, strict=True)):
        if r <= wanted <= s:
            return v + (w - v) * ((wanted - r) / (s - r) if s > r else 1.0)
    return None


def reached(curve: RateDistortion, level: float) -> float | None:
    """Bits per number from which on the perceptual distance is `level` or less; None if it never is."""
    return crossing(rates(curve), perceived(curve), level)


def settled(curve: RateDistortion) -> float:
    """Bits per number after which the perceptual distance has fallen by `SETTLED` of all that it falls by."""
    start, end = perceived(curve)[0], perceived(curve)[-1]
    rate = reached(curve, end + (1 - SETTLED) * max(0.0, start - end))
    assert rate is not None  # the last point is not above
    return rate


def rates(curve: RateDistortion) -> list[float]:
    """Bits per number, point by point."""
    return [rate.mean for rate in curve.rate]


def perceived(curve: RateDistortion) -> list[float]:
    """The perceptual distance, point by point; raises `ValueError` if it was not measured."""
    if curve.perceptual is None:
        raise ValueError("the curve has no perceptual distance, so it has no border; measure it with one")
    return [distance.mean for distance in curve.perceptual]

"""Fidelity and diversity apart: how many generated pictures look real, and how much of what is real is generated.

A set of features stands for the union of balls around its points, each as wide as the distance to the point's k-th
nearest neighbour in the set, itself not counted. With real features X (N of them) and generated Y (M):

    precision = share of Y inside the union of X's balls         recall   = share of X inside the union of Y's balls
    density   = X's balls that a y lies in, in the mean, / k     coverage = share of X's balls that hold some y

Precision and recall: Kynkaanniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. (1, 2). An outlier has a wide
ball: among the real ones it flatters precision, among the generated ones recall. Density counts how often a ball is
hit, and coverage trusts the real balls alone: Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq. (3, 4). Where
both sets are of one distribution density is 1 in the mean and may exceed it, and coverage, for N = M, is

    1 - (N - 1) ... (N - k) / ((2 N - 1) ... (2 N - k))        lemma 2 there.

All four grow or shrink with N and M, so sets are compared at equal numbers only, and next to real against real.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

AT_ONCE = 1 << 24
"""Distances that are held at once."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Fidelity (precision, density) and diversity (recall, coverage), all in [0, 1] but density, which is at least 0.

    Args:
        real, generated: number of features on each side.
        k: the neighbour whose distance is the radius.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    real: int
    generated: int
    k: int


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> PrecisionRecall:
    """The four numbers of the module docstring, by exact Euclidean distances in float64.

    Args:
        real: (N, D) features, N > k.
        generated: (M, D), M > k.
        k: at least 1. Kynkaanniemi et al. take 3 (for N = M = 50,000), Naeem et al. 5.

    Raises:
        ValueError: k below 1, fewer than k + 1 features on a side, or features of different widths.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}; 3 and 5 are usual")
    if real.dim() != 2 or generated.dim() != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {tuple(real.shape)} and {tuple(generated.shape)}")
    n, m = len(real), len(generated)
    if min(n, m) <= k:
        raise ValueError(f"a {k}-th neighbour needs at least {k + 1} features on each side, got {n} and {m}")
    x, y = real.detach().double(), generated.detach().double()
    radius, radius_generated = radii(x, k), radii(y, k)
    balls, inside, covered = [], [], torch.zeros(n, dtype=torch.bool, device=x.device)
    for d in _distances(y, x):  # (rows of y, N)
        held = d <= radius
        balls.append(held.sum(1))
        covered |= held.any(0)
    for d in _distances(x, y):
        inside.append((d <= radius_generated).any(1))
    hits = torch.cat(balls)
    return PrecisionRecall(
        float((hits > 0).double().mean()),
        float(torch.cat(inside).double().mean()),
        float(hits.double().mean() / k),
        float(covered.double().mean()),
        n,
        m,
        k,
    )


def radii(features: Tensor, k: int) -> Tensor:
    """Distance of each of the features (N, D) to its k-th nearest neighbour among the others, (N,); k < N."""
    # the nearest of all is the feature itself, or a copy of it, at distance 0
    return torch.cat([d.kthvalue(k + 1, dim=1).values for d in _distances(features, features)])


def _distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Distances of some rows of a to all of b, (rows, len(b)), until all rows have come."""
    for some in torch.split(a, max(1, AT_ONCE // len(b))):
        # by differences: as a matrix product, a copy would lie at 1e-7 instead of 0 and outside of its own ball
        yield torch.cdist(some, b, compute_mode="donot_use_mm_for_euclid_dist")

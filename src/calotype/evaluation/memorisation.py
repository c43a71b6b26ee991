"""Does the model make pictures, or repeat its training set?

Distances alone do not tell: in a set of similar pictures everything lies close to something. The honest baseline is what
*new real pictures* do. So three sets are compared in feature space:

    d_sample(i)  = distance from generated picture i to the nearest training picture
    d_held(j)    = distance from held-out real picture j to the nearest training picture

**Memorised fraction**: the share of generated pictures with d_sample < c, where c is the k-th smallest of the m held-out
distances, k = max(1, floor(level (m + 1))), level = 1 %. If generated and held-out pictures came from the same
distribution, a generated one would fall below c with probability exactly k / (m + 1), whatever that distribution is
(their ranks are exchangeable; the argument of conformal prediction, Vovk et al. 2005). This probability is reported as
`expected`; what exceeds it is repetition. No threshold is set by hand, few held-out pictures make the test coarser but
not wrong, and a set full of near-duplicates does not accuse the model of having copied.

Two traps, and what the runner does about them. A latent model's pictures pass a decoder that blurs; a perfect copy would
then lie at the decoder's error from its original and escape. So training and held-out pictures can take the same way
(`through`) before they are compared. And training mirrors pictures, so mirrored copies must be found as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.generation.images import to_uint8
from calotype.types import Image


def nearest(queries: Tensor, reference: Tensor, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """The nearest reference of each query, by Euclidean distance.

    Args:
        queries: (N, D) features.
        reference: (M, D) features, M >= 1.
        chunk: queries per distance matrix (chunk, M).

    Returns:
        distance (N,) float64, row (N,) long; the first of equally near ones.

    Raises:
        ValueError: no reference.
    """
    if len(reference) == 0:
        raise ValueError("there is no training picture to compare with")
    found = []
    for q in queries.double().split(chunk):
        # Not by |a|^2 - 2 a b + |b|^2: it loses the digits of small distances, the ones that matter here.
        d = torch.cdist(q, reference.double(), compute_mode="donot_use_mm_for_euclid_dist")
        found.append(d.min(1))
    if not found:
        return queries.new_zeros(0, dtype=torch.float64), queries.new_zeros(0, dtype=torch.long)
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def pixel_rmse(x: Image, y: Image) -> Tensor:
    """Root mean squared difference of each pair of 8-bit pictures, (B, 3, H, W) in [-1, 1] -> (B,) in 0 ... 255."""
    return (to_uint8(x).double() - to_uint8(y).double()).square().mean((1, 2, 3)).sqrt()


@dataclass(frozen=True)
class Memorisation:
    """How close generated pictures come to the training set, beside held-out real ones.

    Args:
        fraction: share of generated pictures closer to the training set than `threshold`.
        expected: the share that new real pictures would show; a fraction near it means no sign of copying.
        threshold: c, a feature distance.
        training, heldout: number of pictures M (mirrored ones not counted) and m.
        distance: d_sample of each generated picture.
        neighbour: row of its nearest training picture.
        rmse: pixel difference to it, 0 ... 255.
        heldout_distance, heldout_rmse: the same of the held-out pictures.
    """

    fraction: float
    expected: float
    threshold: float
    training: int
    heldout: int
    distance: tuple[float, ...]
    neighbour: tuple[int, ...]
    rmse: tuple[float, ...]
    heldout_distance: tuple[float, ...]
    heldout_rmse: tuple[float, ...]


def closeness_threshold(heldout: Tensor, level: float = 0.01) -> tuple[float, float]:
    """(c, k / (m + 1)) from the held-out distances (m,): the threshold, and how often chance falls below it.

    Raises:
        ValueError: no held-out distance, or a level outside (0, 1).
    """
    m = len(heldout)
    if m == 0:
        raise ValueError("without held-out pictures there is no measure of what is close")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    k = max(1, int(level * (m + 1)))
    return float(heldout.double().sort().values[k - 1]), k / (m + 1)

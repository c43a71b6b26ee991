"""Does the model make pictures, or repeat its training set?

Distances alone do not tell: in a set of similar pictures everything lies close to something. The honest baseline is
what *new real pictures* do. So generated and held-out pictures are both compared with the training set:

    d_sample(i)  = distance from generated picture i to the nearest training picture
    d_held(j)    = the same from held-out real picture j

**Memorised fraction**: the share of generated pictures with d_sample < c, where c is the k-th smallest of the m
held-out distances, k = max(1, floor(level (m + 1))), level = 1 %. If generated and held-out pictures came from one
distribution, a generated one would fall below c with probability exactly k / (m + 1), whatever that distribution is:
their ranks are exchangeable (the argument of conformal prediction; Vovk, Gammerman & Shafer 2005). This probability is
reported as `expected`; what exceeds it is repetition. No threshold is set by hand, few held-out pictures make the test
coarser but not wrong, and a set full of near-duplicates does not accuse the model of having copied.

The fraction names copies as near as the nearest accident. Where real pictures come in near-duplicates, that is very
near, and coarse copies pass. So the whole distributions are compared too: `closer` is the probability that a generated
picture lies nearer to the training set than a held-out one (Mann & Whitney's statistic; as a test for copying: Meehan
et al. 2020, https://arxiv.org/abs/2004.05675). New pictures score 0.5, copies 1.

It is done in two spaces, because each is blind in its own way. *Features* see the same thing in another place or
light, but flaws that a decoder leaves move them far away from every real picture, so copies with flaws escape.
*Thumbnails* (32 x 32 pixels) do not mind flaws, but a copy shifted by a few pixels escapes. A picture counts as
memorised if it is close in either.

Two traps. A latent model's pictures come out of a decoder that blurs; a perfect copy would lie at the decoder's error
from its original. So training and held-out pictures can take the same way first (`through`). And training mirrors
pictures, so copies of mirrored ones must be found as well (`mirrored`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.evaluation.features import Extractor, Lite0, Pictures, in_batches
from calotype.generation.images import to_uint8
from calotype.types import Image

THUMBNAIL = 32
"""Side in pixels of the pictures compared in pixel space."""


@dataclass(frozen=True)
class Closeness:
    """How close generated pictures come to the training set in one space, beside held-out real ones.

    Args:
        space: what was compared.
        fraction: share of generated pictures closer to the training set than `threshold`.
        expected: the share that new real pictures would show; a fraction near it means no sign of copying.
        threshold: c.
        closer: probability that a generated picture is closer than a held-out one; 0.5 is no sign of copying.
        distance: d_sample of each generated picture.
        neighbour: row of its nearest training picture.
        heldout_distance: d_held of each held-out picture.
    """

    space: str
    fraction: float
    expected: float
    threshold: float
    closer: float
    distance: tuple[float, ...]
    neighbour: tuple[int, ...]
    heldout_distance: tuple[float, ...]


@dataclass(frozen=True)
class Memorisation:
    """The search for copies.

    Args:
        fraction: share of generated pictures that are close in either space.
        expected: at most this share of new real pictures would be (the sum over both spaces).
        training, heldout: number of pictures.
        features: Euclidean distances of features.
        pixels: root mean squared differences of thumbnails, 0 ... 255.
    """

    fraction: float
    expected: float
    training: int
    heldout: int
    features: Closeness
    pixels: Closeness


def find_copies(
    samples: Pictures,
    training: Pictures,
    heldout: Pictures,
    *,
    through: Callable[[Image], Image] | None = None,
    mirrored: bool = True,
    extractor: Extractor | None = None,
    level: float = 0.01,
) -> Memorisation:
    """The nearest training picture of every sample and of every held-out picture, in both spaces.

    Args:
        samples: generated pictures.
        training: what the model has seen.
        heldout: real pictures that it has not seen, at best about a hundred or more.
        through: what training and held-out pictures pass before the search, normally
            `lambda x: autoencoder.decode(autoencoder.encode(x))`.
        mirrored: also find copies of mirrored training pictures.
        extractor: the feature network; `Lite0` if None.
        level: about the share of held-out pictures that count as close.

    Raises:
        ValueError: a set is empty, or `level` outside (0, 1).
    """
    if min(len(samples), len(training), len(heldout)) == 0:
        counts = f"{len(samples)} generated, {len(training)} training and {len(heldout)} held-out"
        raise ValueError(f"the search for copies needs pictures of every kind, got {counts}")
    extractor = extractor or Lite0()
    s, h = _both(samples, extractor, None), _both(heldout, extractor, through)
    t = _both(training, extractor, through, mirrored)
    features, pixels = (
        _closeness(name, s[k], t[k], h[k], len(training), level)
        for k, name in enumerate((extractor.name, f"thumbnails of {THUMBNAIL} x {THUMBNAIL} pixels, RMSE in levels"))
    )
    close = [
        a < features.threshold or b < pixels.threshold for a, b in zip(features.distance, pixels.distance, strict=True)
    ]
    return Memorisation(
        sum(close) / len(close),
        min(1.0, features.expected + pixels.expected),
        len(training),
        len(heldout),
        features,
        pixels,
    )


def nearest(queries: Tensor, reference: Tensor, chunk: int = 512) -> tuple[Tensor, Tensor]:
    """The nearest reference of each query, by Euclidean distance.

    Args:
        queries: (N, D), N >= 1.
        reference: (M, D), M >= 1.
        chunk: queries per matrix (chunk, M) of distances.

    Returns:
        distance (N,) float64, row (N,) long.
    """
    r = reference.double()
    length = r.square().sum(1) / 2
    # Chosen by a matrix product, which is fast; measured by the difference, which keeps the digits of small distances.
    row = torch.cat([(length - q @ r.T).argmin(1) for q in torch.split(queries.double(), chunk)])
    return (queries.double() - r[row]).norm(dim=1), row


def closeness_threshold(heldout: Tensor, level: float = 0.01) -> tuple[float, float]:
    """(c, k / (m + 1)) from the held-out distances (m,), m >= 1: the threshold, and how often chance falls below it.

    Raises:
        ValueError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    m = len(heldout)
    k = min(m, max(1, math.floor(level * (m + 1) + 1e-9)))  # 0.29 * 100 is 28.999...
    return float(heldout.double().sort().values[k - 1]), k / (m + 1)


def closer(samples: Tensor, heldout: Tensor) -> float:
    """P(d_sample < d_held) + P(d_sample = d_held) / 2 over all pairs of the distances (N,) and (m,)."""
    held = heldout.double().sort().values
    d = samples.double()
    below, upto = torch.searchsorted(held, d), torch.searchsorted(held, d, right=True)
    return 1.0 - float((below + upto).double().mean()) / (2 * len(held))


def thumbnails(images: Image) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] as points (B, D) whose Euclidean distance is the RMSE of their thumbnails."""
    small = F.adaptive_avg_pool2d(to_uint8(images).float(), THUMBNAIL).flatten(1)
    return (small / math.sqrt(small.shape[1])).cpu()


@torch.no_grad()
def _both(
    pictures: Pictures, extractor: Extractor, through: Callable[[Image], Image] | None, mirrored: bool = False
) -> tuple[Tensor, Tensor]:
    """Features and thumbnails; the mirrored pictures' follow behind all others'."""
    straight: list[tuple[Tensor, Tensor]] = []
    flipped: list[tuple[Tensor, Tensor]] = []
    for x in in_batches(pictures, 64):
        x = x if through is None else through(x)
        straight.append((extractor(x), thumbnails(x)))
        if mirrored:
            flipped.append((extractor(x.flip(-1)), thumbnails(x.flip(-1))))
    features, pixels = zip(*straight, *flipped, strict=True)
    return torch.cat(features), torch.cat(pixels)


def _closeness(name: str, samples: Tensor, training: Tensor, heldout: Tensor, n: int, level: float) -> Closeness:
    (distance, row), (held, _) = nearest(samples, training), nearest(heldout, training)
    threshold, expected = closeness_threshold(held, level)
    return Closeness(
        name,
        float((distance < threshold).double().mean()),
        expected,
        threshold,
        closer(distance, held),
        tuple(distance.tolist()),
        tuple((row % n).tolist()),
        tuple(held.tolist()),
    )

"""Held-out pictures with classes, and how near a set of generated ones comes to them, in fidelity and in diversity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calotype.autoencoder.base import Autoencoder
from calotype.data.loader import pictures
from calotype.data.source import Source
from calotype.data.subset import Subset
from calotype.evaluation.features import Lite0, extract
from calotype.evaluation.frechet import Moments, frechet_distance
from calotype.evaluation.precision_recall import precision_recall
from calotype.generation.classifier import LatentClassifier
from calotype.runtime import best_device
from calotype.types import Image

K = 3
"""The neighbour whose distance is the radius of precision and recall."""

DRAWS = 4
"""Sets of training pictures that are measured as if they had been generated."""


@dataclass(frozen=True)
class Likeness:
    """What n pictures are like, beside n held-out ones of the same classes.

    Args:
        n: on each side.
        frechet: FD-lite0.
        precision, recall, density, coverage: see `evaluation.precision_recall`.
        accuracy: share that the judge takes for the class that was asked for.
    """

    n: int
    frechet: float
    precision: float
    recall: float
    density: float
    coverage: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What samples are compared with: real pictures that have passed the model's first stage, as its samples have.

    A decoder's softness is no matter of guidance, but would set every sample apart from every untouched picture.

    Args:
        labels: (n,) the classes of the held-out pictures; samples are asked for the same.
        features: (n, D) of FD-lite0.
        judge: a classifier of clean pixels that guides nobody. It is asked at t = 0.
        real: sets of training pictures of the same classes, measured likewise, but for the accuracy, which is that on
            the held-out pictures: the judge knows the others.
    """

    labels: Tensor
    features: Tensor
    judge: LatentClassifier
    real: Sequence[Likeness]

    @classmethod
    def of(
        cls, held_out: Source, training: Source, side: int, judge: LatentClassifier, autoencoder: Autoencoder
    ) -> Yardstick:
        """All of `held_out`, beside `DRAWS` choices of training pictures, after each has passed the autoencoder.

        Raises:
            ValueError: too few pictures, see `alike` and `precision_recall`.
        """
        labels, x = torch.tensor(held_out.labels()), _images(held_out, side, autoencoder)
        bare = cls(labels, extract(x, Lite0(best_device())), judge, ())
        known = bare.accuracy(x)
        draws = (_images(alike(training, held_out.labels(), k), side, autoencoder) for k in range(DRAWS))
        return replace(bare, real=[replace(bare.measure(y), accuracy=known) for y in draws])

    def measure(self, images: Image) -> Likeness:
        """Pictures (n, 3, H, W) in [-1, 1]; picture i was to be of class labels[i]."""
        f = extract(images, Lite0(best_device()))
        near = precision_recall(self.features, f, K)
        frechet = frechet_distance(Moments.of(self.features), Moments.of(f))
        return Likeness(
            len(f), frechet, near.precision, near.recall, near.density, near.coverage, self.accuracy(images)
        )

    @torch.no_grad()
    def accuracy(self, images: Image) -> float:
        """Share of the pictures that the judge takes for what they were to be."""
        right = []
        for x, y in zip(torch.split(images, 256), torch.split(self.labels, 256), strict=True):
            x = x.to(best_device())
            right.append(self.judge.classifier(x, x.new_zeros(len(x))).argmax(1).cpu() == y)
        return float(torch.cat(right).double().mean())


def alike(source: Source, labels: Sequence[int], k: int) -> Source:
    """The k-th of disjoint parts of a source, each with as many pictures of every class as `labels` has.

    Raises:
        ValueError: a class is not large enough.
    """
    known, rows = source.labels(), []
    for label, many in sorted(Counter(labels).items()):
        mine = [i for i, other in enumerate(known) if other == label][k * many : (k + 1) * many]
        if len(mine) < many:
            raise ValueError(f"{source.name} has not {k + 1} times {many} pictures of class {label}")
        rows += mine
    return Subset(source, rows, f"{len(rows):,} of {source.name}")


@torch.no_grad()
def _images(source: Source, side: int, autoencoder: Autoencoder) -> Tensor:
    """The pictures of a source as the autoencoder brings them back."""
    batches = (batch["image"].to(best_device()) for batch in pictures(source, side))
    return torch.cat([autoencoder.decode(autoencoder.encode(x)).clamp(-1, 1).cpu() for x in batches])

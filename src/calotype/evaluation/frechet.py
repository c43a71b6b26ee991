"""Fréchet distance between the Gaussian fits of two sets of features.

    d^2 = |mu_1 - mu_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^{1/2}

mu, S are mean and covariance (divided by n - 1), in float64. With the Inception features of 2015 this number is called
FID (Heusel et al. 2017, https://arxiv.org/abs/1706.08500, eq. 6); with other features it must not be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of a set of features; `a + b` is the set of both, so shards can be computed anywhere.

    Holding the scatter around the mean, not raw sums of squares, keeps all digits when the mean is large.
    Merging: Chan, Golub & LeVeque 1983, https://doi.org/10.1080/00031305.1983.10483115.

    Args:
        count: n.
        mean: (D,) float64.
        scatter: (D, D) float64, sum_i (f_i - mean) (f_i - mean)^T.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """The moments of features (n, D), n >= 0."""
        f = features.detach().double()
        mean = f.mean(0) if len(f) else f.new_zeros(f.shape[1])
        return cls(len(f), mean, (f - mean).T @ (f - mean))

    @classmethod
    def stream(cls, batches: Iterable[Tensor]) -> Moments:
        """The moments of all batches (n_k, D); at least one batch."""
        parts = (cls.of(batch) for batch in batches)
        return sum(parts, start=next(parts))

    def __add__(self, other: Moments) -> Moments:
        n = self.count + other.count
        if n == 0:
            return self
        delta = other.mean - self.mean
        return Moments(
            n,
            self.mean + delta * (other.count / n),
            self.scatter + other.scatter + torch.outer(delta, delta) * (self.count * other.count / n),
        )

    @property
    def covariance(self) -> Tensor:
        """(D, D), divided by n - 1. Raises `ValueError` for fewer than two features."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 features, got {self.count}")
        return self.scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """d^2 >= 0 between the Gaussians with these moments.

    tr (S_1 S_2)^{1/2} is the sum of the square roots of the eigenvalues of R_1 S_2 R_1, R = S^{1/2}; these are the
    singular values of R_1 R_2. Taking them there needs no square root of a rounding error, so singular covariances
    (fewer features than dimensions) need no small multiple of the identity, and d(a, a) is zero to rounding.
    """
    s_1, s_2 = a.covariance, b.covariance
    cross = torch.linalg.svdvals(_root(s_1) @ _root(s_2)).sum()
    d = (a.mean - b.mean).square().sum() + s_1.trace() + s_2.trace() - 2 * cross
    return max(0.0, float(d))


def _root(s: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh((s + s.T) / 2)
    # Eigenvalues below the rounding error of the largest are zeros; their roots would be 1e8 times as large.
    floor = values[-1].clamp(min=0) * len(s) * torch.finfo(s.dtype).eps
    root: Tensor = vectors * torch.where(values > floor, values, 0.0).sqrt() @ vectors.T
    return root

"""Denoisers that are exactly right.

For data from a mixture of Gaussians, E[x_0 | x_t] has a closed form. With it a sampler, a guidance or a grid is tested
against truth instead of against yesterday's output, and a study can tell a solver's error from a network's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.diffusion.schedule import Schedule, rows
from calotype.types import Denoise


@dataclass(frozen=True)
class GaussianMixture:
    """sum_k w_k N(mu_k, s_k^2 I). One component is a Gaussian; s = 0 is a point.

    Args:
        means: (K, *shape).
        stds: (K,), not negative.
        weights: (K,), positive, sum 1.
    """

    means: Tensor
    stds: Tensor
    weights: Tensor

    @classmethod
    def gaussian(cls, mean: Tensor, std: float) -> GaussianMixture:
        """N(mean, std^2 I) over samples shaped like `mean`."""
        return cls(mean[None], mean.new_tensor([std]), mean.new_ones(1))

    def denoise(self, schedule: Schedule) -> Denoise:
        """The exact (x_t, t) -> E[x_0 | x_t] for x_t (B, *shape) and t (B,).

        With v_k = alpha^2 s_k^2 + sigma^2 the variance of x_t in component k:

            E[x_0 | x_t] = sum_k r_k (mu_k + alpha s_k^2 / v_k (x_t - alpha mu_k)),    r_k ~ w_k N(x_t; alpha mu_k, v_k)
        """

        def exact(x_t: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = (v.to(x_t)[:, None] for v in schedule.at(t))
            means, stds, weights = self.means.to(x_t).flatten(1), self.stds.to(x_t), self.weights.to(x_t)
            variance = alpha**2 * stds**2 + sigma**2  # (B, K)
            away = x_t.flatten(1)[:, None] - alpha[..., None] * means  # (B, K, D)
            log_likelihood = -(away.square().sum(2) / variance + means.shape[1] * variance.log()) / 2
            r = (weights.log() + log_likelihood).softmax(1)
            x_0 = means + (alpha * stds**2 / variance)[..., None] * away
            return torch.einsum("bk,bkd->bd", r, x_0).view_as(x_t)

        return exact

    def draw(self, noise: Tensor, u: Tensor) -> Tensor:
        """Exact samples like `noise` (B, *shape) ~ N(0, I), their components chosen by u (B,) uniform in [0, 1)."""
        k = torch.searchsorted(self.weights.cumsum(0), u.to(self.weights)).clamp(max=len(self.weights) - 1)
        return self.means[k].to(noise) + rows(self.stds[k], noise) * noise

    def mean(self) -> Tensor:
        """(*shape)."""
        return torch.einsum("k,k...->...", self.weights, self.means)

    def covariance(self) -> Tensor:
        """(D, D) of the flattened sample."""
        away = (self.means - self.mean()).flatten(1)
        within = (self.weights * self.stds**2).sum() * torch.eye(away.shape[1]).to(away)
        return within + torch.einsum("k,ki,kj->ij", self.weights, away, away)

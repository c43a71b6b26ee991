"""How far a reconstruction is from its original, as one likelihood.

    nll = e^{-s} [ w_1 |x - x_hat| + w_2 (x - x_hat)^2 + w_p P(x, x_hat) ] + s        means over c, h, w

P is a perceptual distance, s = log of the errors' scale: 0, or learned with the autoencoder.

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix G. Their code keeps s as a parameter that no optimizer
ever sees; here it is learned or it is not there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Likelihood(nn.Module):
    """The error in nats per pixel value, up to a constant.

    Args:
        learned: whether s ("logvar") is a parameter that starts at 0, or 0 for good. At the optimum e^s is the mean
            error itself, so that the reconstruction's share of the loss against the bottleneck's rate no longer depends
            on how hard the pictures are.
    """

    def __init__(self, learned: bool) -> None:
        super().__init__()
        self.logvar = nn.Parameter(torch.zeros(())) if learned else None

    def forward(self, error: Tensor) -> Tensor:
        """Weighted mean error, a scalar -> nll, a scalar."""
        return error if self.logvar is None else error * torch.exp(-self.logvar) + self.logvar

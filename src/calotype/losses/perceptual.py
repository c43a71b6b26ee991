"""Perceptual distance: how different two pictures look, by the features of a frozen network.

    P(x, y) = mean_l mean_{h,w} sum_c ( x_l / |x_l|  -  y_l / |y_l| )^2        |.| = norm over the channels of a place

x_l and y_l are the four taps of EfficientNet-Lite0 (1/2, 1/4, 1/8, 1/16 of the picture). This is the *unweighted* form
of Zhang et al. 2018, https://arxiv.org/abs/1801.03924, eq. (1): their learned channel weights belong to another
network. P lies in [0, 4] (each place compares two unit vectors), is symmetric, and zero for equal pictures. Its values
are not those of LPIPS, so a number is named "perceptual (lite0)" wherever it is shown.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calotype.nn.features import Lite0Features
from calotype.types import Image


class Perceptual(nn.Module):
    """P(x, y); the features are frozen, gradients flow to both pictures.

    Args:
        features: (B, 3, H, W) in [-1, 1] -> tuple of taps (B, C_l, H_l, W_l); None = the embedded EfficientNet-Lite0.
        eps: added to the squared norm, so that a place without any feature gives 0 instead of 0 / 0.
    """

    def __init__(self, features: nn.Module | None = None, eps: float = 1e-10) -> None:
        super().__init__()
        self.features = (features or Lite0Features()).eval().requires_grad_(False)
        self.eps = eps

    def train(self, mode: bool = True) -> Perceptual:
        """Stays in evaluation mode: a judge does not learn with those whom it judges."""
        return super().train(False)

    def forward(self, x: Image, y: Image) -> Tensor:
        """Distance of each pair of pictures (B, 3, H, W) in [-1, 1] -> (B,) float32.

        Raises:
            ValueError: the shapes differ.
        """
        if x.shape != y.shape:
            raise ValueError(f"pictures to compare need one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
        # Two passes, not one over the concatenation: a picture that needs no gradient then keeps no activations.
        taps = zip(self.features(x), self.features(y), strict=True)
        return torch.stack([(self._unit(a) - self._unit(b)).square().sum(1).mean((1, 2)) for a, b in taps]).mean(0)

    def _unit(self, h: Tensor) -> Tensor:
        # In float32 whatever the features came in: bfloat16 keeps 8 bits, too few for a difference of unit vectors.
        h = h.float()
        return h * torch.rsqrt(h.square().sum(1, keepdim=True) + self.eps)

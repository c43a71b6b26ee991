"""Perceptual distance: how different two pictures look, by the features of a frozen network.

    P(x, y) = mean_l mean_{h,w} sum_c ( x_l / |x_l|  -  y_l / |y_l| )^2        |.| = norm over the channels of a place

x_l and y_l are the four taps of EfficientNet-Lite0 (1/2, 1/4, 1/8, 1/16 of the picture). This is the *unweighted* form
of Zhang et al. 2018, https://arxiv.org/abs/1801.03924, eq. (1): their learned channel weights belong to another
network, see `lpips`. P lies in [0, 4] (each place compares two unit vectors), is symmetric, and zero for equal
pictures. Its values are not those of LPIPS, so every distance has a `name` that stands beside its numbers.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from calotype.nn.features import Lite0Features
from calotype.registry import Registry
from calotype.types import Image


class PerceptualDistance(nn.Module, ABC):
    """A distance between pictures by frozen features; gradients flow to both pictures and to nothing else.

    Args:
        features: (B, 3, H, W) in [-1, 1] -> tuple of taps (B, C_l, H_l, W_l).
        name: what results call the distance.
    """

    def __init__(self, features: nn.Module, name: str) -> None:
        super().__init__()
        self.features = features.eval().requires_grad_(False)
        self.name = name

    def train(self, mode: bool = True) -> PerceptualDistance:
        """Stays in evaluation mode: a judge does not learn with those whom it judges."""
        return super().train(False)

    @cached_property
    def sha256(self) -> str:
        """Of all weights with their names: the same for the same weights, whatever file they came in."""
        h = hashlib.sha256()
        for name, value in sorted([*self.named_parameters(), *self.named_buffers()]):
            h.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return h.hexdigest()

    def forward(self, x: Image, y: Image) -> Tensor:
        """Distance of each pair of pictures (B, 3, H, W) in [-1, 1] -> (B,) float32.

        Raises:
            ValueError: the shapes differ.
        """
        if x.shape != y.shape:
            raise ValueError(f"pictures to compare need one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
        # Two passes, not one over the concatenation: a picture that needs no gradient then keeps no activations.
        taps = zip(self.features(x), self.features(y), strict=True)
        # In float32 whatever the features came in: bfloat16 keeps 8 bits, too few for a difference of unit vectors.
        return self.compare([(a.float(), b.float()) for a, b in taps])

    @abstractmethod
    def compare(self, taps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The distance (B,) by the taps of x and y, pairs of (B, C_l, H_l, W_l) float32."""


@runtime_checkable
class PerceptualConfig(Protocol):
    """What a perceptual distance is built from; a registered frozen dataclass."""

    smallest: ClassVar[int]
    """Pixels of the shortest side that it can look at."""

    def build(self) -> PerceptualDistance:
        """The distance with its weights; raises `UserError` if they are not there."""
        ...


perceptuals: Registry[PerceptualConfig] = Registry("perceptual", "calotype.losses")


class Perceptual(PerceptualDistance):
    """P(x, y) of the module docstring.

    Args:
        features: None = the embedded EfficientNet-Lite0.
        eps: added to the squared norm, so that a place without any feature gives 0 instead of 0 / 0.
    """

    def __init__(self, features: nn.Module | None = None, eps: float = 1e-10) -> None:
        network = "lite0" if features is None else type(features).__name__
        super().__init__(Lite0Features() if features is None else features, f"perceptual ({network})")
        self.eps = eps

    def compare(self, taps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The mean over taps."""
        return torch.stack([(self._unit(a) - self._unit(b)).square().sum(1).mean((1, 2)) for a, b in taps]).mean(0)

    def _unit(self, h: Tensor) -> Tensor:
        return h * torch.rsqrt(h.square().sum(1, keepdim=True) + self.eps)


@perceptuals.register("lite0")
@dataclass(frozen=True)
class Lite0Perceptual:
    """Features of EfficientNet-Lite0, unweighted; they come with the package."""

    smallest: ClassVar[int] = 1

    def build(self) -> Perceptual:
        """P with the embedded weights."""
        return Perceptual()

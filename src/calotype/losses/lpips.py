"""LPIPS, the learned perceptual distance (Zhang et al. 2018, https://arxiv.org/abs/1801.03924, eq. (1)), version 0.1.

    d(x, y) = sum_l mean_{h,w} sum_c w_lc ( x_l / (|x_l| + eps)  -  y_l / (|y_l| + eps) )_c^2           eps = 1e-10

x_l and y_l are VGG16's feature maps after relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3, |.| is the norm over the
channels of a place, w_lc >= 0 are weights that were fitted to judgements of people. d >= 0 is symmetric, and zero for
equal pictures.

The 1,472 weights w come with the package, the 15 million of VGG16 do not: see `nn.vgg.find_weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from calotype.files import read_tensors
from calotype.losses.perceptual import PerceptualDistance, perceptuals
from calotype.nn.vgg import CHANNELS, SMALLEST, Vgg16Features, find_weights

LINEAR = "lpips_vgg_linear.safetensors"
EPS = 1e-10


class LpipsDistance(PerceptualDistance):
    """d(x, y) of the module docstring.

    Args:
        weights: VGG16's, see `nn.vgg.Vgg16Features`, which says what is raised.
    """

    def __init__(self, weights: Path | str) -> None:
        super().__init__(Vgg16Features(weights), "LPIPS (VGG16)")
        with as_file(files("calotype.data") / "embedded" / LINEAR) as path:
            linear = read_tensors(path)
        for tap in range(len(CHANNELS)):
            self.register_buffer(f"linear{tap}", linear[f"lin{tap}"].float().view(-1, 1, 1), persistent=False)

    def compare(self, taps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """The sum over taps of the weighted squared differences."""
        differences = ((_unit(a) - _unit(b)).square() for a, b in taps)
        weighted = (self.get_buffer(f"linear{tap}") * d for tap, d in enumerate(differences))
        return torch.stack([d.sum(1).mean((1, 2)) for d in weighted]).sum(0)


def _unit(h: Tensor) -> Tensor:
    # vector_norm's gradient at a place without any feature is 0; that of sqrt(sum of squares) would be 0 / 0.
    norm: Tensor = torch.linalg.vector_norm(h, dim=1, keepdim=True)
    return h / (norm + EPS)


@perceptuals.register("lpips")
@dataclass(frozen=True)
class Lpips:
    """LPIPS; the weights of its VGG16 are to be fetched once by hand.

    Args:
        weights: VGG16's, a safetensors file with torchvision's or timm's names; None = vgg16.safetensors in the folder
            that the environment variable CALOTYPE_WEIGHTS names, else in ~/.cache/calotype.
    """

    weights: str | None = None
    smallest: ClassVar[int] = SMALLEST

    def build(self) -> LpipsDistance:
        """d with these weights; raises `UserError` if they are not there."""
        return LpipsDistance(find_weights(self.weights))

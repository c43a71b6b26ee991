"""VGG16's convolutions, the network behind LPIPS. Its weights are not shipped: `find_weights` tells where they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.errors import UserError
from calotype.files import read_tensors

STAGES = (
    ((0, 64), (2, 64)),
    ((5, 128), (7, 128)),
    ((10, 256), (12, 256), (14, 256)),
    ((17, 512), (19, 512), (21, 512)),
    ((24, 512), (26, 512), (28, 512)),
)
"""(number, channels) of the 3 x 3 convolutions between poolings; the number is that in the weights' names."""

CHANNELS = tuple(stage[-1][1] for stage in STAGES)
"""Of the taps relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""

SMALLEST = 2 ** (len(STAGES) - 1)
"""Pixels of the shortest side of which the poolings leave anything."""

WEIGHTS = "vgg16.safetensors"
FOLDER = "CALOTYPE_WEIGHTS"
"""The environment variable that names the folder of weights that do not come with the package."""

MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's colours: (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) on [0, 1], here on [-1, 1]."""


class Vgg16Features(nn.Module):
    """Frozen feature maps of VGG16 (Simonyan & Zisserman 2015, https://arxiv.org/abs/1409.1556, configuration D).

    All weights are non-persistent buffers: they never reach a checkpoint, and no optimizer sees them.

    Args:
        weights: a safetensors file with "features.0.weight" (64, 3, 3, 3), "features.0.bias" (64,), ...,
            "features.28.bias" (512,), of any floating type; other names (the classifier's) are passed over.

    Raises:
        UserError: there is no such file, or it holds another network.
        CorruptFile: it is damaged, or no safetensors file.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path | str) -> None:
        super().__init__()
        tensors, incoming = read_tensors(weights), 3
        for stage in STAGES:
            for number, channels in stage:
                shapes = {"weight": (channels, incoming, 3, 3), "bias": (channels,)}
                for part, shape in shapes.items():
                    value = _checked(tensors, f"features.{number}.{part}", shape, weights).float()
                    if value.ndim == 4:
                        value = value.contiguous(memory_format=torch.channels_last)
                    self.register_buffer(f"conv{number}_{part}", value, persistent=False)
                incoming = channels
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of x (B, 3, H, W) in [-1, 1], after the ReLU: 64 channels at 1/1, 128 at 1/2, 256 at 1/4, 512 at
        1/8, 512 at 1/16; float32 whatever the autocast.

        Raises:
            UserError: a side shorter than `SMALLEST` pixels.
        """
        if min(x.shape[-2:]) < SMALLEST:
            raise UserError(
                f"VGG16 looks at {SMALLEST} x {SMALLEST} pixels or more, got {x.shape[-1]} x {x.shape[-2]}; "
                "take larger pictures, or lite0"
            )
        taps = []
        with torch.autocast(x.device.type, enabled=False):
            h = ((x.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
            for k, stage in enumerate(STAGES):
                h = F.max_pool2d(h, 2) if k else h
                for n, _ in stage:
                    h = F.relu(F.conv2d(h, self.get_buffer(f"conv{n}_weight"), self.get_buffer(f"conv{n}_bias"), 1, 1))
                taps.append(h)
        return tuple(taps)


def find_weights(path: Path | str | None = None) -> Path:
    """The file with VGG16's weights: `path`, else vgg16.safetensors in the folder of weights.

    That folder is the one that the environment variable CALOTYPE_WEIGHTS names, else calotype in the user's cache
    ($XDG_CACHE_HOME, else ~/.cache).

    Raises:
        UserError: it is not there; the sentence says where to get it and where to put it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = Path(path) if path else Path(os.environ.get(FOLDER) or cache / "calotype") / WEIGHTS
    if not file.is_file():
        raise UserError(
            f"there is no file {file} with the weights of VGG16, which LPIPS needs: put model.safetensors of timm's "
            "vgg16.tv_in1k (Hugging Face hub) there, name another file, or take lite0, which needs nothing"
        )
    return file


def _checked(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], file: Path | str) -> Tensor:
    value = tensors.get(name)
    if value is None or value.shape != shape or not value.is_floating_point():
        found = "missing" if value is None else f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        raise UserError(
            f"{file} holds no VGG16: {name} is {found}, expected floating-point {shape}; take model.safetensors of "
            "timm's vgg16.tv_in1k (Hugging Face hub)"
        )
    return value

"""EfficientNet-Lite0's trunk: the offline network behind perceptual distances and FD-lite0."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.files import read_tensors


class Block(NamedTuple):
    """One inverted-bottleneck block of the trunk."""

    incoming: int
    channels: int
    kernel: int
    stride: int
    expand: int


BLOCKS = (
    Block(32, 16, 3, 1, 1),
    Block(16, 24, 3, 2, 6),
    Block(24, 24, 3, 1, 6),
    Block(24, 40, 5, 2, 6),
    Block(40, 40, 5, 1, 6),
    Block(40, 80, 3, 2, 6),
    Block(80, 80, 3, 1, 6),
    Block(80, 80, 3, 1, 6),
    Block(80, 112, 5, 1, 6),
    Block(112, 112, 5, 1, 6),
    Block(112, 112, 5, 1, 6),
)
TAPS = (0, 2, 4, 10)
WEIGHTS = "efficientnet_lite0_trunk_fp16.safetensors"


class Lite0Features(nn.Module):
    """Frozen feature maps of EfficientNet-Lite0 (Tan & Le 2019, https://arxiv.org/abs/1905.11946; TensorFlow's Lite
    variant: ReLU6, no squeeze-and-excite).

    Batch normalisation (eps 1e-3) is folded into the convolutions. All weights are non-persistent buffers: they never
    reach a checkpoint, and no optimizer sees them.
    """

    def __init__(self) -> None:
        super().__init__()
        with as_file(files("calotype.data") / "embedded" / WEIGHTS) as path:
            weights = {k: v.float() for k, v in read_tensors(path).items() if not k.endswith("num_batches_tracked")}
        self._fold("stem", weights, "_conv_stem", "_bn0")
        for i, block in enumerate(BLOCKS):
            names: tuple[tuple[str, str, str], ...] = (("expand", "_expand_conv", "_bn0"),) if block.expand > 1 else ()
            for part, conv, norm in (
                *names,
                ("depth", "_depthwise_conv", "_bn1"),
                ("project", "_project_conv", "_bn2"),
            ):
                self._fold(f"block{i}_{part}", weights, f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}")

    def _fold(self, name: str, weights: dict[str, Tensor], conv: str, norm: str) -> None:
        scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + 1e-3).sqrt()
        weight = weights[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        self.register_buffer(f"{name}_weight", weight.contiguous(memory_format=torch.channels_last), persistent=False)
        self.register_buffer(f"{name}_bias", bias, persistent=False)

    def _conv(self, name: str, x: Tensor, kernel: int = 1, stride: int = 1, groups: int = 1) -> Tensor:
        if stride == 2:  # TensorFlow's SAME padding: what is odd goes to the right and to the bottom
            w, h = (kernel - 2 + side % 2 for side in (x.shape[3], x.shape[2]))
            x = F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2))
        padding = kernel // 2 if stride == 1 else 0
        return F.conv2d(
            x, self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias"), stride, padding, groups=groups
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Feature maps of x (B, 3, H, W) in [-1, 1]: 16 channels at 1/2, 24 at 1/4, 40 at 1/8, 112 at 1/16."""
        with torch.autocast(x.device.type, enabled=False):  # narrow depthwise layers: fp32 is faster and exact
            x = x.float().contiguous(memory_format=torch.channels_last)
            x = F.relu6(self._conv("stem", x, 3, 2))
            taps = []
            for i, block in enumerate(BLOCKS):
                h = x
                if block.expand > 1:
                    h = F.relu6(self._conv(f"block{i}_expand", h))
                h = F.relu6(self._conv(f"block{i}_depth", h, block.kernel, block.stride, h.shape[1]))
                h = self._conv(f"block{i}_project", h)
                x = x + h if block.stride == 1 and block.incoming == block.channels else h
                if i in TAPS:
                    taps.append(x)
        a, b, c, d = taps
        return a, b, c, d

    def pooled(self, x: Tensor) -> Tensor:
        """The mean over space of the last map at 128 pixels, (B, 112): the features of FD-lite0."""
        x = F.interpolate(x.float(), size=(128, 128), mode="bilinear", antialias=True, align_corners=False)
        pooled: Tensor = self(x)[-1].mean((2, 3))
        return pooled

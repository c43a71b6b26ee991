"""A network that says of every pixel what it belongs to: a pyramid on frozen features, quick to train."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from calotype.nn.features import Lite0Features
from calotype.nn.layers import ResBlock, double, group_norm, zero
from calotype.nn.sizes import WIDEST, check_sizes
from calotype.types import Image

TAPS = (16, 24, 40, 112)
"""Channels of EfficientNet-Lite0's maps, from the largest to the smallest."""


@dataclass(frozen=True)
class SegmentationConfig:
    """How wide a `SegmentationNetwork` is.

    Args:
        areas: K, what there is to tell apart.
        width: of the smaller maps; the largest one is half as wide.
        dropout: in residual blocks.

    Raises:
        ValueError: a size out of bounds.
    """

    areas: int = 2
    width: int = 64
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_sizes(areas=(self.areas, 256), width=(self.width, WIDEST))
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    def build(self) -> SegmentationNetwork:
        """A fresh network."""
        return SegmentationNetwork(self)


class SegmentationNetwork(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] -> logits (B, K, H, W), all zero at first; sides are multiples of 8.

    EfficientNet-Lite0 sees the picture at twice its size, so that its largest map has the picture's. Its maps are
    joined from the smallest to the largest: Lin et al. 2017 (feature pyramids), https://arxiv.org/abs/1612.03144. It
    has seen a million photographs, which a small data set cannot make up for; it is neither trained nor saved.
    """

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__()
        self.config = config
        self.features = Lite0Features()
        widths = [max(1, config.width // 2), *[config.width] * (len(TAPS) - 1)]
        self.norms = nn.ModuleList(group_norm(c, 1e-5) for c in TAPS)
        self.laterals = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(TAPS, widths, strict=True))
        above = [*widths[1:], widths[-1]]
        self.joins = nn.ModuleList(nn.Conv2d(a, w, 1) for a, w in zip(above[:-1], widths[:-1], strict=True))
        self.blocks = nn.ModuleList(ResBlock(w, w, eps=1e-5, dropout=config.dropout) for w in widths)
        self.norm = group_norm(widths[0], 1e-5)
        self.out = zero(nn.Conv2d(widths[0], config.areas, 1))

    def forward(self, x: Image) -> Tensor:
        """See the class; raises `ValueError` for other sides."""
        if x.shape[-1] % 8 or x.shape[-2] % 8:
            raise ValueError(f"sides must be multiples of 8, got {tuple(x.shape[-2:])}")
        taps = self.features(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
        # In channels-last format, group norm's backward pass on the CPU crashes where its input needs no gradient.
        normed = [norm(tap.contiguous()) for norm, tap in zip(self.norms, taps, strict=True)]
        maps = [lateral(h) for lateral, h in zip(self.laterals, normed, strict=True)]
        h = self.blocks[-1](maps[-1])
        for k in reversed(range(len(maps) - 1)):
            h = self.blocks[k](maps[k] + self.joins[k](double(h)))
        logits: Tensor = self.out(F.silu(self.norm(h)))
        return logits

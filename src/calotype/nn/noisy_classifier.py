"""A classifier of noisy samples: the downward half of a UNet, pooled by attention.

Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, section 4; the noisy latents' classifier of Rombach et al.
2022, https://arxiv.org/abs/2112.10752, is the same network on latents. Theirs are 128 channels wide with two blocks per
level, attention at 32, 16 and 8 and heads of 64 channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.condition import Condition
from calotype.nn.attention import Attention
from calotype.nn.layers import group_norm, timestep_embedding, zero
from calotype.nn.network import perceptron
from calotype.nn.sizes import check_sizes
from calotype.nn.unet import Stage, UNetConfig


@dataclass(frozen=True)
class NoisyClassifierConfig:
    """Which half UNet, and how many classes.

    Args:
        classes: K.
        half: the UNet whose way down and middle it is; `in_channels` counts, `out_channels` does not.

    Raises:
        ValueError: a UNet that reads conditions, sizes out of bounds.
    """

    classes: int = 2
    half: UNetConfig = field(default_factory=UNetConfig)

    def __post_init__(self) -> None:
        check_sizes(classes=(self.classes, 1_000_000))
        if self.half.context_width is not None or self.half.vector_width is not None:
            raise ValueError("a classifier reads no conditions; leave context_width and vector_width away")

    def build(self) -> NoisyClassifier:
        """A fresh network."""
        return NoisyClassifier(self)


class AttentionPool(nn.Module):
    """Positions as one vector: what their mean attends to. (B, C, H, W) -> (B, C), for maps of any size.

    Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 2.3, without the table of positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, width, heads)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        positions = x.flatten(2).transpose(1, 2)
        mean = positions.mean(1, keepdim=True)
        out: Tensor = self.attention(mean, torch.cat([mean, positions], 1))[:, 0]
        return out


class NoisyClassifier(nn.Module):
    """(x_t, what the clock shows) -> logits (B, K); all zero at first, which is every class alike."""

    def __init__(self, config: NoisyClassifierConfig) -> None:
        super().__init__()
        self.config = config
        half = config.half
        widths, levels = half.widths, range(len(half.widths))
        self.time = perceptron(half.time_channels, half.embedding_width)
        self.conv_in = half.stem.enter(half.in_channels, widths[0])
        self.down = nn.ModuleList()
        self.downsamples = nn.ModuleList(half.downsample(i) for i in levels[:-1])
        width = widths[0]
        for i in levels:
            stages = nn.ModuleList()
            for _ in range(half.blocks_at(i)):
                stages.append(Stage(half, width, i, half.attends[i]))
                width = widths[i]
            self.down.append(stages)
        self.middle1 = Stage(half, width, levels[-1], True)
        self.middle2 = Stage(half, width, levels[-1], False)
        self.norm = group_norm(width, 1e-5)
        self.pool = AttentionPool(width, half.heads_at(levels[-1]))
        self.out = zero(nn.Linear(width, config.classes))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, C, H, W), time (B,) from 0 to 1000 -> (B, K).

        Raises:
            ValueError: other channels, or sides that cannot be halved often enough.
        """
        half = self.config.half
        if x.shape[1] != half.in_channels or x.shape[-1] % half.factor or x.shape[-2] % half.factor:
            raise ValueError(
                f"built for {half.in_channels} channels and sides that are multiples of {half.factor}, "
                f"got {tuple(x.shape[1:])}"
            )
        emb, cond = F.silu(self.time(timestep_embedding(time, half.time_channels))), Condition()
        h = self.conv_in(x)
        for i, stages in enumerate(self.down):
            if i:
                h = self.downsamples[i - 1](h, emb)
            for stage in stages:  # type: ignore[attr-defined]
                h = stage(h, emb, cond)
        h = self.middle2(self.middle1(h, emb, cond), emb, cond)
        logits: Tensor = self.out(self.pool(F.silu(self.norm(h))))
        return logits

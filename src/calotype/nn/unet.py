"""The denoising UNet, isomorphic to Stable Diffusion's.

Ho et al. 2020, https://arxiv.org/abs/2006.11239; Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233;
cross-attention of Rombach et al. 2022, https://arxiv.org/abs/2112.10752.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.nn.attention import SpatialTransformer
from calotype.nn.layers import Downsample, ResBlock, Upsample
from calotype.nn.network import Network, NetworkConfig, networks
from calotype.nn.sizes import check_sizes


@networks.register("unet")
@dataclass(frozen=True)
class UNetConfig(NetworkConfig):
    """Residual blocks at every level, transformers behind some of them, skip connections between equal sizes.

    Args (besides those of `NetworkConfig`):
        blocks: residual blocks per level, one number for all or one each; the upward path has one more.
        attention: per level, whether its blocks are followed by a transformer. The middle always has one.
        depth: transformer blocks per transformer.

    Raises:
        ValueError: a size out of bounds, levels that disagree, heads that do not divide a width.
    """

    blocks: int | tuple[int, ...] = 2
    attention: tuple[bool, ...] = (False, True, True)
    depth: int = 1

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.multipliers):
            raise ValueError(
                f"attention has {len(self.attention)} entries for {len(self.multipliers)} levels; give one per level"
            )
        super().__post_init__()
        if isinstance(self.blocks, tuple) and len(self.blocks) != len(self.multipliers):
            raise ValueError(
                f"blocks has {len(self.blocks)} entries for {len(self.multipliers)} levels; give one per level, or one "
                "number for all"
            )
        for level in range(len(self.multipliers)):
            check_sizes(blocks=(self.blocks_at(level), 16), depth=(self.depth, 32))
        for width in {self.widths[-1], *(w for w, a in zip(self.widths, self.attention, strict=True) if a)}:
            self._check_heads(width)

    def blocks_at(self, level: int) -> int:
        """Residual blocks of a level's downward path."""
        return self.blocks[level] if isinstance(self.blocks, tuple) else self.blocks

    def build(self) -> UNet:
        """A fresh network."""
        return UNet(self)

    def narrower(self, side: int, widest: int) -> str | None:
        """The levels whose attention can be left out."""
        small = [on and side // f <= widest for on, f in zip(self.attention, self.factors, strict=True)]
        return None if small == [*self.attention] else f"network.attention={str(small).lower()}"


class Stage(nn.Module):
    """A residual block, perhaps with a transformer behind it."""

    def __init__(self, config: UNetConfig, incoming: int, level: int, attention: bool) -> None:
        super().__init__()
        width, dropout = config.widths[level], config.dropout_at(level)
        self.block = ResBlock(
            incoming,
            width,
            embedding=4 * config.channels,
            eps=1e-5,
            dropout=dropout,
            zero_init=config.zero_init,
        )
        heads = config.heads_at(width)
        self.transformer = (
            SpatialTransformer(width, config.context_width, heads, config.depth, dropout, config.zero_init)
            if attention
            else None
        )

    def forward(self, x: Tensor, emb: Tensor, cond: Condition) -> Tensor:
        """x (B, incoming, H, W) -> (B, width, H, W)."""
        h: Tensor = self.block(x, emb)
        return h if self.transformer is None else self.transformer(h, cond.tokens, cond.mask)


class UNet(Network):
    """(x_t, what the clock shows, condition) -> F of the latent's shape."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths, levels = config.widths, range(len(config.widths))
        self.down = nn.ModuleList()
        self.downsamples = nn.ModuleList(Downsample(w, asymmetric=False) for w in widths[:-1])
        skips, width = [widths[0]], widths[0]
        for i in levels:
            stages = nn.ModuleList()
            for _ in range(config.blocks_at(i)):
                stages.append(Stage(config, width, i, config.attention[i]))
                width = widths[i]
                skips.append(width)
            self.down.append(stages)
            if i < levels[-1]:
                skips.append(width)
        self.middle1 = Stage(config, width, levels[-1], True)
        self.middle2 = Stage(config, width, levels[-1], False)
        self.up = nn.ModuleList()
        self.upsamples = nn.ModuleList(Upsample(w) for w in widths[:0:-1])
        for i in reversed(levels):
            stages = nn.ModuleList()
            for _ in range(config.blocks_at(i) + 1):
                stages.append(Stage(config, width + skips.pop(), i, config.attention[i]))
                width = widths[i]
            self.up.append(stages)

    def body(self, h: Tensor, emb: Tensor, cond: Condition) -> Tensor:
        """Down, middle, up."""
        skips = [h]
        for i, stages in enumerate(self.down):
            if i:
                h = self.downsamples[i - 1](h)
                skips.append(h)
            for stage in stages:  # type: ignore[attr-defined]
                h = stage(h, emb, cond)
                skips.append(h)
        h = self.middle2(self.middle1(h, emb, cond), emb, cond)
        for i, stages in enumerate(self.up):
            if i:
                h = self.upsamples[i - 1](h)
            for stage in stages:  # type: ignore[attr-defined]
                h = stage(torch.cat([h, skips.pop()], 1), emb, cond)
        return h

"""The denoising UNet, isomorphic to Stable Diffusion's.

Ho et al. 2020, https://arxiv.org/abs/2006.11239; Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233;
cross-attention of Rombach et al. 2022, https://arxiv.org/abs/2112.10752.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.errors import UserError
from calotype.nn.attention import AttentionBlock, SpatialTransformer
from calotype.nn.layers import Downsample, ResBlock, Upsample, double, halve
from calotype.nn.network import Network, NetworkConfig, networks
from calotype.nn.sizes import PerLevel, at_level, check_per_level


@dataclass(frozen=True)
class AtFactors:
    """Attention where maps are this many times smaller than the input, whatever the number of levels.

    So placed in published configs, some of which name factors that their networks do not have, or take the sides of
    maps for factors; here that is refused, and such a network is written down as it was built.

    Args:
        factors: of the maps that attend; () = in the middle alone.
    """

    factors: tuple[int, ...] = ()

    @classmethod
    def of_sides(cls, side: int, *sides: int) -> AtFactors:
        """By the sides of maps where the network's input is `side` wide, as in the papers' tables.

        Raises:
            ValueError: a side that `side` is no multiple of.
        """
        for s in sides:
            if s < 1 or side % s:
                raise ValueError(f"maps of an input {side} wide are no {s} wide")
        return cls(tuple(side // s for s in sides))


@networks.register("unet")
@dataclass(frozen=True)
class UNetConfig(NetworkConfig):
    """Residual blocks at every level, transformers behind some of them, skip connections between equal sizes.

    Args (besides those of `NetworkConfig`):
        blocks: residual blocks per level, one number for all or one each; the upward path has one more.
        attention: per level, whether its blocks are followed by a transformer; or `AtFactors`. The middle always has
            one.
        depth: transformer blocks per transformer, one number for all levels or one each; the middle's is the last.
        linear_projections: transformers begin and end with matrices, as in Stable Diffusion 2 and XL, instead of 1x1
            convolutions.
        plain_attention: self-attention alone in place of transformers, as in ADM and in unconditional latent diffusion;
            such a network reads no tokens.
        scale_shift: time and vector scale and shift the second norm of residual blocks (adaptive group norm) instead of
            being added before it.
        resblock_updown: maps are halved and doubled inside residual blocks (by the mean of four, and by repeating)
            instead of by convolutions.

    The last three are ADM's: Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, section 3.

    Raises:
        ValueError: a size out of bounds, levels that disagree, attention where there are no maps, heads that do not
            divide a width.
        UserError: plain attention that is to read tokens, or to have a transformer's parts.
    """

    blocks: PerLevel = 2
    attention: tuple[bool, ...] | AtFactors = (False, True, True)
    depth: PerLevel = 1
    linear_projections: bool = field(default=False, kw_only=True)
    plain_attention: bool = field(default=False, kw_only=True)
    scale_shift: bool = field(default=False, kw_only=True)
    resblock_updown: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        levels = len(self.multipliers)
        if isinstance(self.attention, tuple) and len(self.attention) != levels:
            raise ValueError(f"attention has {len(self.attention)} entries for {levels} levels; give one per level")
        super().__post_init__()
        check_per_level(levels, blocks=(self.blocks, 16), depth=(self.depth, 32))
        if isinstance(self.attention, AtFactors):
            for factor in self.attention.factors:
                if factor not in self.factors:
                    raise ValueError(
                        f"attention.factors names {factor}, but maps are {', '.join(map(str, self.factors))} times "
                        "smaller than the input"
                    )
        for level in {levels - 1, *(i for i, attends in enumerate(self.attends) if attends)}:
            self._check_heads(level)
        if self.plain_attention and self.context_width is not None:
            raise UserError(
                "plain attention (network.plain_attention=true) reads no tokens; take network.plain_attention=false, "
                "or conditions that come as a vector or as channels"
            )
        if self.plain_attention and (self.linear_projections or self.depth != 1):
            raise UserError(
                "depth and linear_projections belong to transformers; leave them away, or take "
                "network.plain_attention=false"
            )

    @property
    def attends(self) -> tuple[bool, ...]:
        """Per level, whether its blocks are followed by attention."""
        if isinstance(self.attention, AtFactors):
            return tuple(factor in self.attention.factors for factor in self.factors)
        return self.attention

    def blocks_at(self, level: int) -> int:
        """Residual blocks of a level's downward path."""
        return at_level(self.blocks, level)

    def downsample(self, level: int) -> Downsample | ResBlock:
        """From this level's maps to the next one's: (h, emb) -> h."""
        if not self.resblock_updown:
            return Downsample(self.widths[level], asymmetric=False)
        return self.residual(self.widths[level], level, level + 1, halve)

    def upsample(self, level: int) -> Upsample | ResBlock:
        """From this level's maps to those of the one before: (h, emb) -> h."""
        if not self.resblock_updown:
            return Upsample(self.widths[level])
        return self.residual(self.widths[level], level, level - 1, double)

    def residual(
        self, incoming: int, level: int, size: int | None = None, resample: Callable[[Tensor], Tensor] | None = None
    ) -> ResBlock:
        """A residual block as wide as `level`, that works on maps of the level `size`, of the same one if None."""
        return ResBlock(
            incoming,
            self.widths[level],
            embedding=self.embedding_width,
            eps=1e-5,
            dropout=self.dropout_at(level if size is None else size),
            zero_init=self.zero_init,
            scale_shift=self.scale_shift,
            resample=resample,
        )

    def transformer(self, level: int) -> SpatialTransformer:
        """A transformer for maps of this level."""
        return SpatialTransformer(
            self.widths[level],
            self.context_width,
            self.heads_at(level),
            at_level(self.depth, level),
            self.dropout_at(level),
            self.zero_init,
            self.linear_projections,
        )

    def build(self) -> UNet:
        """A fresh network."""
        return UNet(self)

    def narrower(self, side: int, widest: int) -> str | None:
        """The levels whose attention can be left out."""
        small = [on and side // f <= widest for on, f in zip(self.attends, self.factors, strict=True)]
        return None if small == [*self.attends] else f"network.attention={str(small).lower()}"


class Stage(nn.Module):
    """A residual block, perhaps with a transformer or with plain attention behind it."""

    def __init__(self, config: UNetConfig, incoming: int, level: int, attends: bool) -> None:
        super().__init__()
        plain = config.plain_attention
        self.block = config.residual(incoming, level)
        self.transformer = config.transformer(level) if attends and not plain else None
        self.attention = (
            AttentionBlock(config.widths[level], config.heads_at(level), config.zero_init)
            if attends and plain
            else None
        )

    def forward(self, x: Tensor, emb: Tensor, cond: Condition) -> Tensor:
        """x (B, incoming, H, W) -> (B, width, H, W)."""
        h: Tensor = self.block(x, emb)
        if self.attention is not None:
            h = self.attention(h)
        if self.transformer is not None:
            h = self.transformer(h, cond.tokens, cond.mask)
        return h


class UNet(Network):
    """(x_t, what the clock shows, condition) -> F of the latent's shape."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths, levels = config.widths, range(len(config.widths))
        self.down = nn.ModuleList()
        self.downsamples = nn.ModuleList(config.downsample(i) for i in levels[:-1])
        skips, width = [widths[0]], widths[0]
        for i in levels:
            stages = nn.ModuleList()
            for _ in range(config.blocks_at(i)):
                stages.append(Stage(config, width, i, config.attends[i]))
                width = widths[i]
                skips.append(width)
            self.down.append(stages)
            if i < levels[-1]:
                skips.append(width)
        self.middle1 = Stage(config, width, levels[-1], True)
        self.middle2 = Stage(config, width, levels[-1], False)
        self.up = nn.ModuleList()
        self.upsamples = nn.ModuleList(config.upsample(i) for i in levels[:0:-1])
        for i in reversed(levels):
            stages = nn.ModuleList()
            for _ in range(config.blocks_at(i) + 1):
                stages.append(Stage(config, width + skips.pop(), i, config.attends[i]))
                width = widths[i]
            self.up.append(stages)

    def body(self, h: Tensor, emb: Tensor, cond: Condition) -> Tensor:
        """Down, middle, up."""
        skips = [h]
        for i, stages in enumerate(self.down):
            if i:
                h = self.downsamples[i - 1](h, emb)
                skips.append(h)
            for stage in stages:  # type: ignore[attr-defined]
                h = stage(h, emb, cond)
                skips.append(h)
        h = self.middle2(self.middle1(h, emb, cond), emb, cond)
        for i, stages in enumerate(self.up):
            if i:
                h = self.upsamples[i - 1](h, emb)
            for stage in stages:  # type: ignore[attr-defined]
                h = stage(torch.cat([h, skips.pop()], 1), emb, cond)
        return h

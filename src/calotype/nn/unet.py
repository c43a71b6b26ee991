"""The denoising UNet, isomorphic to Stable Diffusion's.

Ho et al. 2020, https://arxiv.org/abs/2006.11239; Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233;
cross-attention of Rombach et al. 2022, https://arxiv.org/abs/2112.10752.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.condition import Condition
from calotype.nn.attention import SpatialTransformer
from calotype.nn.layers import Downsample, ResBlock, Upsample, group_norm, timestep_embedding, zero
from calotype.nn.sizes import WIDEST, check_sizes, check_widths
from calotype.registry import Registry

networks: Registry[UNetConfig] = Registry("network", "calotype.nn")


@networks.register("unet")
@dataclass(frozen=True)
class UNetConfig:
    """Config of `UNet`.

    Args:
        in_channels, out_channels: of the latent, spatial conditions included in the first.
        channels: width of the outermost level.
        multipliers: width of level i is channels * multipliers[i].
        blocks: residual blocks per level; the upward path has one more.
        attention: per level, whether its blocks are followed by a transformer. The middle always has one.
        head_width: channels per attention head; wider levels have more heads.
        heads: heads at every level, `head_width` aside, as in Stable Diffusion 1 (8); None = by `head_width`.
        depth: transformer blocks per transformer.
        context_width: width of the tokens it reads, or None.
        vector_width: width of the vector condition, or None.
        dropout: in residual blocks and feed-forward layers.
        zero_init: residual branches start at zero, as in the released networks. It steadies long runs of deep networks;
            short runs of shallow ones learn faster without it.

    Raises:
        ValueError: a size out of bounds, levels that disagree, heads that do not divide a width.
    """

    in_channels: int = 4
    out_channels: int = 4
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True, True)
    head_width: int = 32
    heads: int | None = None
    depth: int = 1
    context_width: int | None = None
    vector_width: int | None = None
    dropout: float = 0.0
    zero_init: bool = True

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.multipliers):
            raise ValueError(
                f"attention has {len(self.attention)} entries for {len(self.multipliers)} levels; give one per level"
            )
        check_widths(self.channels, self.multipliers)
        check_sizes(
            in_channels=(self.in_channels, WIDEST),
            out_channels=(self.out_channels, WIDEST),
            blocks=(self.blocks, 16),
            depth=(self.depth, 32),
            head_width=(self.head_width, 1024),
            heads=(self.heads, 1024),
            context_width=(self.context_width, 2 * WIDEST),
            vector_width=(self.vector_width, 2 * WIDEST),
        )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        for width in {self.widths[-1], *(w for w, a in zip(self.widths, self.attention, strict=True) if a)}:
            if width % self.heads_at(width) or (self.heads is None and width % self.head_width):
                raise ValueError(
                    f"{f'head_width {self.head_width}' if self.heads is None else f'heads {self.heads}'} "
                    f"does not divide the width {width}"
                )

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each level, outermost first."""
        return tuple(self.channels * m for m in self.multipliers)

    def heads_at(self, width: int) -> int:
        """Number of heads of a transformer this wide."""
        return self.heads or max(1, width // self.head_width)

    def build(self) -> UNet:
        """A fresh network."""
        return UNet(self)


class Stage(nn.Module):
    """A residual block, perhaps with a transformer behind it."""

    def __init__(self, config: UNetConfig, incoming: int, width: int, attention: bool) -> None:
        super().__init__()
        self.block = ResBlock(
            incoming,
            width,
            embedding=4 * config.channels,
            eps=1e-5,
            dropout=config.dropout,
            zero_init=config.zero_init,
        )
        heads = config.heads_at(width)
        self.transformer = (
            SpatialTransformer(width, config.context_width, heads, config.depth, config.dropout, config.zero_init)
            if attention
            else None
        )

    def forward(self, x: Tensor, emb: Tensor, cond: Condition) -> Tensor:
        """x (B, incoming, H, W) -> (B, width, H, W)."""
        h: Tensor = self.block(x, emb)
        return h if self.transformer is None else self.transformer(h, cond.tokens, cond.mask)


class UNet(nn.Module):
    """(x_t, what the clock shows, condition) -> F of the latent's shape."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, wide = config.widths, 4 * config.channels
        self.time = nn.Sequential(nn.Linear(config.channels, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.vector = (
            None
            if config.vector_width is None
            else nn.Sequential(nn.Linear(config.vector_width, wide), nn.SiLU(), nn.Linear(wide, wide))
        )
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.downsamples = nn.ModuleList(Downsample(w, asymmetric=False) for w in widths[:-1])
        skips, width = [widths[0]], widths[0]
        for i, (w, attention) in enumerate(zip(widths, config.attention, strict=True)):
            stages = nn.ModuleList()
            for _ in range(config.blocks):
                stages.append(Stage(config, width, w, attention))
                width = w
                skips.append(w)
            self.down.append(stages)
            if i < len(widths) - 1:
                skips.append(w)
        self.middle1 = Stage(config, width, width, True)
        self.middle2 = Stage(config, width, width, False)
        self.up = nn.ModuleList()
        self.upsamples = nn.ModuleList(Upsample(w) for w in widths[:0:-1])
        for w, attention in zip(widths[::-1], config.attention[::-1], strict=True):
            stages = nn.ModuleList()
            for _ in range(config.blocks + 1):
                stages.append(Stage(config, width + skips.pop(), w, attention))
                width = w
            self.up.append(stages)
        self.norm = group_norm(width, 1e-5)
        self.conv_out = zero(nn.Conv2d(width, config.out_channels, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, cond: Condition) -> Tensor:
        """x (B, C, H, W), time (B,) from 0 to 1000.

        Raises:
            ValueError: sides that cannot be halved often enough, or a condition that the network was not built for.
        """
        self._check(x, cond)
        emb = self.time(timestep_embedding(time, self.config.channels))
        if self.vector is not None and cond.vector is not None:
            emb = emb + self.vector(cond.vector)
        emb = F.silu(emb)
        h = self.conv_in(x if cond.spatial is None else torch.cat([x, cond.spatial], 1))
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
        out: Tensor = self.conv_out(F.silu(self.norm(h)))
        return out

    def _check(self, x: Tensor, cond: Condition) -> None:
        multiple = 2 ** (len(self.config.widths) - 1)
        spatial = 0 if cond.spatial is None else cond.spatial.shape[1]
        if x.shape[1] + spatial != self.config.in_channels:
            raise ValueError(
                f"built for {self.config.in_channels} channels, got {x.shape[1]} of the latent and {spatial} of the "
                "spatial condition"
            )
        if x.shape[-1] % multiple or x.shape[-2] % multiple:
            raise ValueError(f"latent sides must be multiples of {multiple}, got {tuple(x.shape[-2:])}")
        found = (cond.routes.tokens, cond.routes.vector)
        wanted = (self.config.context_width, self.config.vector_width)
        if found != wanted:
            raise ValueError(f"built for conditions of (token, vector) width {wanted}, got {found}")

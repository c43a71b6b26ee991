"""U-ViT in the sense of simple diffusion: convolutions where maps are large, a transformer where they are small.

Hoogeboom et al. 2023, https://arxiv.org/abs/2301.11093, sections 3.3 and 4: capacity is best spent at 16 x 16, where
parameters dominate and activations are few; taken to its end, the lowest level of a UNet has no convolutions at all.
Not the U-ViT of Bao et al. 2022, https://arxiv.org/abs/2209.12152, which is a transformer from first to last.

    downward    residual blocks per level, each of which keeps its result; halving by a strided convolution
    lowest      tokens + positions -> transformer blocks, told the time by the scale and shift of their norms
    upward      doubling; as many residual blocks, each of which reads the result kept by its mirror image

Nothing skips the transformer at its own level: its blocks are residual already. Widths and depths of the paper's own
networks are not reproduced; positions are sines and cosines instead of learned, so that a network takes any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.nn.attention import Attention
from calotype.nn.layers import Downsample, ResBlock, Upsample, timestep_embedding, zero
from calotype.nn.network import Network, NetworkConfig, networks
from calotype.nn.sizes import check_sizes


@networks.register("uvit")
@dataclass(frozen=True)
class UViTConfig(NetworkConfig):
    """Residual blocks at all levels but the lowest, which is a transformer: for pixels, with a stem that makes maps
    small.

    Args (besides those of `NetworkConfig`):
        blocks: per level, residual blocks each way; the last number is of transformer blocks. With one level only, the
            network is a plain transformer behind its stem.

    Raises:
        ValueError: a size out of bounds, levels that disagree, heads that do not divide the lowest level's width.
    """

    blocks: tuple[int, ...] = (2, 2, 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.blocks) != len(self.multipliers):
            raise ValueError(
                f"blocks has {len(self.blocks)} entries for {len(self.multipliers)} levels; give one per level, the "
                "last for the transformer"
            )
        for n in self.blocks:
            check_sizes(blocks=(n, 64))
        self._check_heads(len(self.multipliers) - 1)

    def build(self) -> UViT:
        """A fresh network."""
        return UViT(self)

    def narrower(self, side: int, widest: int) -> str | None:
        """As many levels more as the transformer needs to come below `widest`."""
        more = 0
        while side // (self.factor * 2**more) > widest:
            more += 1
        if not more:
            return None
        wanted = {
            "multipliers": [*self.multipliers, *[self.multipliers[-1]] * more],
            "blocks": [*self.blocks[:-1], *[1] * more, self.blocks[-1]],
        }
        return " ".join(f"network.{key}=[{','.join(map(str, values))}]" for key, values in wanted.items())


class ModulatedBlock(nn.Module):
    """Self-attention, cross-attention where there are tokens, MLP, each pre-normed and residual.

    The time enters as scale and shift of a norm, norm(x) (1 + scale) + shift: the adaptive norm of Dhariwal & Nichol
    2021, https://arxiv.org/abs/2105.05233, table 3, on layers instead of groups, as in Peebles & Xie 2022,
    https://arxiv.org/abs/2212.09748. With `zero_init` a block starts as the identity.
    """

    def __init__(
        self, width: int, embedding: int, context: int | None, heads: int, dropout: float, zero_init: bool
    ) -> None:
        super().__init__()
        self.norm1, self.norm3 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Linear(embedding, 4 * width)
        self.self_attention = Attention(width, width, heads)
        self.norm2 = None if context is None else nn.LayerNorm(width)
        self.cross_attention = None if context is None else Attention(width, context, heads)
        down = nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), down)
        if zero_init:
            for layer in (self.modulation, self.self_attention.out, down):
                zero(layer)
            if self.cross_attention is not None:
                zero(self.cross_attention.out)

    def forward(self, x: Tensor, emb: Tensor, cond: Condition) -> Tensor:
        """x (B, N, width), emb (B, embedding) already through SiLU -> (B, N, width)."""
        scale1, shift1, scale3, shift3 = self.modulation(emb)[:, None].chunk(4, -1)
        h = self.norm1(x) * (1 + scale1) + shift1
        x = x + self.self_attention(h, h)
        if self.norm2 is not None and self.cross_attention is not None:
            x = x + self.cross_attention(self.norm2(x), cond.tokens, cond.mask)
        out: Tensor = x + self.mlp(self.norm3(x) * (1 + scale3) + shift3)
        return out


class UViT(Network):
    """(x_t, what the clock shows, condition) -> F of the latent's shape."""

    def __init__(self, config: UViTConfig) -> None:
        super().__init__(config)
        *widths, deepest = config.widths
        *blocks, depth = config.blocks
        outer = widths[-1] if widths else deepest
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.downsamples = nn.ModuleList(Downsample(w, asymmetric=False) for w in widths)
        self.upsamples = nn.ModuleList()
        for level, (w, n) in enumerate(zip(widths, blocks, strict=True)):
            above = widths[max(level - 1, 0)]
            self.down.append(nn.ModuleList(self._block(config, i, level) for i in (above, *[w] * (n - 1))))
        self.proj_in = nn.Linear(outer, deepest)
        self.transformer = nn.ModuleList(
            ModulatedBlock(
                deepest,
                config.embedding_width,
                config.context_width,
                config.heads_at(len(widths)),
                config.dropout_at(len(widths)),
                config.zero_init,
            )
            for _ in range(depth)
        )
        self.proj_out = nn.Linear(deepest, outer)
        for level, (w, n) in reversed([*enumerate(zip(widths, blocks, strict=True))]):
            below = [*widths, outer][level + 1]
            self.upsamples.append(Upsample(below))
            self.up.append(nn.ModuleList(self._block(config, i + w, level) for i in (below, *[w] * (n - 1))))

    @staticmethod
    def _block(config: UViTConfig, incoming: int, level: int) -> ResBlock:
        return ResBlock(
            incoming,
            config.widths[level],
            embedding=config.embedding_width,
            eps=1e-5,
            dropout=config.dropout_at(level),
            zero_init=config.zero_init,
        )

    def body(self, h: Tensor, emb: Tensor, cond: Condition) -> Tensor:
        """Down, transformer, up."""
        kept = []
        for blocks, halve in zip(self.down, self.downsamples, strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, emb)
                kept.append(h)
            h = halve(h)
        height, width = h.shape[-2:]
        tokens = self.proj_in(h.flatten(2).mT)
        tokens = tokens + positions(height, width, tokens.shape[-1], h.device).to(tokens.dtype)
        for block in self.transformer:
            tokens = block(tokens, emb, cond)
        h = self.proj_out(tokens).mT.unflatten(-1, (height, width))
        for blocks, double in zip(self.up, self.upsamples, strict=True):
            h = double(h)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(torch.cat([h, kept.pop()], 1), emb)
        return h


def positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Where a token is: cosines and sines of its row, then of its column -> (height * width, channels), float32.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5, once for each side."""
    rows = timestep_embedding(torch.arange(height, device=device), channels // 2)
    columns = timestep_embedding(torch.arange(width, device=device), channels - channels // 2)
    grid = [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)]
    return torch.cat(grid, -1).flatten(0, 1)

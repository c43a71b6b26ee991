"""A small pre-norm transformer over word pieces.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, in the pre-norm form that Rombach et al. 2022 use for captions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.nn.sizes import WIDEST, check_sizes


@dataclass(frozen=True)
class TextTransformerConfig:
    """Config of `TextTransformer`.

    Args:
        vocabulary: number of words.
        length: positions.
        width: of a token's state.
        depth: layers.
        heads: per layer.
        head_width: channels of a head; None = width / heads. Rombach et al. 2022 have 8 of 64, whatever the width.
        word_std, position_std: size of the embeddings at first. Words that are large beside what the layers add are
            told apart from the first step on, which Rombach et al.'s, 0.02 for both, are not.

    Raises:
        ValueError: a size out of bounds, heads that do not divide the width.
    """

    vocabulary: int
    length: int
    width: int
    depth: int
    heads: int
    head_width: int | None = None
    word_std: float = 1.0
    position_std: float = 0.1

    def __post_init__(self) -> None:
        check_sizes(
            vocabulary=(self.vocabulary, 2**20),
            length=(self.length, 4096),
            width=(self.width, WIDEST),
            depth=(self.depth, 64),
            heads=(self.heads, 256),
            head_width=(self.head_width, 1024),
        )
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}, or head_width be given")
        for name, std in (("word_std", self.word_std), ("position_std", self.position_std)):
            if not 0.0 < std <= 10.0:
                raise ValueError(f"{name} must lie in (0, 10], got {std}")

    def build(self) -> TextTransformer:
        """A fresh transformer."""
        return TextTransformer(self)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) with a GELU of four times the width.

    Args:
        width: of x.
        heads: number of heads.
        head_width: of each; None = width / heads.
    """

    def __init__(self, width: int, heads: int, head_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width if head_width is not None else width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * inner, bias=False), nn.Linear(inner, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, L, width), mask (B, 1, 1, L) True = attend."""
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(a.transpose(1, 2).reshape(b, n, -1))
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out


class TextTransformer(nn.Module):
    """Token states of a caption: learned positions, bidirectional attention, final layer norm."""

    def __init__(self, config: TextTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.zeros(config.length, config.width))
        nn.init.normal_(self.embedding.weight, std=config.word_std)
        nn.init.normal_(self.positions, std=config.position_std)
        self.layers = nn.ModuleList(Layer(config.width, config.heads, config.head_width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, L) long, mask (B, L) True = a real token -> states (B, L, width)."""
        x = self.embedding(ids) + self.positions[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, mask[:, None, None])
        out: Tensor = self.norm(x)
        return out

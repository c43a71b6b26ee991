"""The spatial transformer: positions attend to one another, then to the condition's tokens.

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.3. Order as in the released weights: self-attention,
cross-attention, feed-forward (the paper's table 16 swaps the last two). Networks that read no tokens may do with
attention alone, `AttentionBlock`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.nn.layers import group_norm, zero

SMALL = 1024
"""Positions up to which the explicit products beat the fused kernel on CPUs, forward and backward together."""


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for q (B, heads, N, d), k and v (B, heads, L, d), mask (B, L) True = attend.

    On CPUs the fused kernel's backward is several times slower than two matrix products for the short sequences of
    latents; everywhere else, and for long sequences, the fused kernel saves memory and time.
    """
    if mask is not None:
        mask = mask[:, None, None]
    if q.device.type != "cpu" or max(q.shape[2], k.shape[2]) > SMALL:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    out: Tensor = scores.softmax(-1).to(v.dtype) @ v
    return out


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V with queries from x and keys, values from `context`.

    Args:
        width: of x and of the result.
        context: width of the tokens that are read.
        heads: number of heads; each is width / heads wide.
        bias: of queries, keys and values; transformers have none.
    """

    def __init__(self, width: int, context: int, heads: int, *, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(context, width, bias=bias)
        self.value = nn.Linear(context, width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, N, width), context (B, L, context), mask (B, L) True = attend -> (B, N, width)."""
        q, k, v = (
            f(c).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for f, c in ((self.query, x), (self.key, context), (self.value, context))
        )
        a = attend(q, k, v, mask)
        out: Tensor = self.out(a.transpose(1, 2).flatten(2))
        return out


class GEGLU(nn.Module):
    """Linear(a * gelu(g)) with (a, g) = Linear(x): Shazeer 2020, https://arxiv.org/abs/2002.05202; exact GELU."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        a, g = self.up(x).chunk(2, -1)
        out: Tensor = self.down(self.dropout(a * F.gelu(g)))
        return out


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward, each pre-normed and residual.

    Without a context the second attention is another self-attention, as in the released networks."""

    def __init__(self, width: int, context: int | None, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = Attention(width, width, heads)
        self.cross_attention = Attention(width, context or width, heads)
        self.feed_forward = GEGLU(width, dropout)

    def forward(self, x: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """x (B, N, width), context (B, L, context) or None."""
        h = self.norm1(x)
        x = x + self.self_attention(h, h)
        h = self.norm2(x)
        x = x + (self.cross_attention(h, h) if context is None else self.cross_attention(h, context, mask))
        out: Tensor = x + self.feed_forward(self.norm3(x))
        return out


class SpatialTransformer(nn.Module):
    """x + proj_out(transformer(proj_in(norm(x)))), positions as tokens; with `zero_init` it starts as the identity.

    Args:
        width: C.
        context: width of the tokens that are read, or None.
        heads: of every attention.
        depth: number of transformer blocks.
        dropout: in feed-forward layers.
        zero_init: proj_out is zero at first.
        linear_projections: proj_in and proj_out are matrices on tokens, as in Stable Diffusion 2 and XL, instead of 1x1
            convolutions on maps: the same function, of weights of another shape.
    """

    def __init__(
        self,
        width: int,
        context: int | None,
        heads: int,
        depth: int,
        dropout: float = 0.0,
        zero_init: bool = True,
        linear_projections: bool = False,
    ) -> None:
        super().__init__()
        self.norm = group_norm(width, 1e-6)
        self.linear = linear_projections
        self.proj_in = nn.Linear(width, width) if linear_projections else nn.Conv2d(width, width, 1)
        self.blocks = nn.ModuleList(TransformerBlock(width, context, heads, dropout) for _ in range(depth))
        self.proj_out = nn.Linear(width, width) if linear_projections else nn.Conv2d(width, width, 1)
        if zero_init:
            zero(self.proj_out)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """x (B, width, H, W), context (B, L, context), mask (B, L) True = attend -> the shape of x."""
        h = self.norm(x)
        tokens = self.proj_in(_tokens(h)) if self.linear else _tokens(self.proj_in(h))
        for block in self.blocks:
            tokens = block(tokens, context, mask)
        h = _map(self.proj_out(tokens), x) if self.linear else self.proj_out(_map(tokens, x))
        return x + h


class AttentionBlock(nn.Module):
    """x + out(softmax(Q K^T / sqrt(d)) V) of norm(x), positions as tokens; with `zero_init` it starts as the identity.

    What Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, and the unconditional networks of latent diffusion
    have in place of a transformer: queries, keys and values with bias, no feed-forward layer, nothing else to read.
    """

    def __init__(self, width: int, heads: int, zero_init: bool = True) -> None:
        super().__init__()
        self.norm = group_norm(width, 1e-5)
        self.attention = Attention(width, width, heads, bias=True)
        if zero_init:
            zero(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, width, H, W) -> the same shape."""
        tokens = _tokens(self.norm(x))
        return x + _map(self.attention(tokens, tokens), x)


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, HW, C)."""
    return x.flatten(2).transpose(1, 2)


def _map(tokens: Tensor, like: Tensor) -> Tensor:
    """(B, HW, C) -> (B, C, H, W), the shape of `like`."""
    return tokens.transpose(1, 2).reshape(like.shape)

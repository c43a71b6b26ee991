"""Attention against PyTorch's, the feed-forward layer and the transformer against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.nn import attention
from calotype.nn.attention import GEGLU, Attention, AttentionBlock, SpatialTransformer, TransformerBlock, attend


def qkv(n: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(  # type: ignore[return-value]
        torch.randn(2, 3, s, 8, dtype=torch.float64, generator=g, requires_grad=True) for s in (n, length, length)
    )


MASK = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("short", [True, False])
def test_attend_equals_pytorchs(masked: bool, short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not short:  # the branch of long sequences
        monkeypatch.setattr(attention, "SMALL", 4)
    q, k, v = qkv(7, 5)
    mask = MASK if masked else None
    a = attend(q, k, v, mask)
    b = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
    assert torch.allclose(a, b, rtol=0, atol=1e-13)
    probe = torch.randn(a.shape, dtype=a.dtype, generator=torch.Generator().manual_seed(1))
    for of_a, of_b in zip(
        torch.autograd.grad(a, (q, k, v), probe), torch.autograd.grad(b, (q, k, v), probe), strict=True
    ):
        assert torch.allclose(of_a, of_b, rtol=0, atol=1e-13)


@pytest.mark.parametrize("short", [True, False])
def test_a_row_that_may_attend_to_nothing_is_no_catastrophe(short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not short:
        monkeypatch.setattr(attention, "SMALL", 4)
    out = attend(*qkv(7, 5), torch.stack([torch.zeros(5, dtype=torch.bool), MASK[1]]))
    assert out.isfinite().all()


def test_attend_equals_its_formula() -> None:
    q, k, v = qkv(7, 5)
    scores = torch.einsum("bhnd,bhld->bhnl", q, k) / math.sqrt(8)
    weights = scores.exp() * MASK[:, None, None]
    expected = torch.einsum("bhnl,bhld->bhnd", weights / weights.sum(-1, keepdim=True), v)
    assert torch.allclose(attend(q, k, v, MASK), expected, rtol=0, atol=1e-13)


def test_attend_keeps_the_precision_it_is_given() -> None:
    q, k, v = (t.detach().bfloat16() for t in qkv(7, 5))
    assert attend(q, k, v).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert attend(q, k, v, MASK).dtype == torch.bfloat16


def test_attention_splits_the_heads_evenly() -> None:
    """Each head sees its own slice of the channels; one head at a time gives the same sum."""
    torch.manual_seed(0)
    layer = Attention(12, 5, 3).double()
    x, context = torch.randn(2, 4, 12, dtype=torch.float64), torch.randn(2, 6, 5, dtype=torch.float64)
    expected = layer.out.bias
    for head in range(3):
        s = slice(4 * head, 4 * head + 4)
        q, k, v = x @ layer.query.weight[s].T, context @ layer.key.weight[s].T, context @ layer.value.weight[s].T
        expected = expected + (q @ k.mT / 2).softmax(-1) @ v @ layer.out.weight[:, s].T
    assert torch.allclose(layer(x, context), expected, atol=1e-12)
    assert layer.query.bias is None and layer.key.bias is None and layer.value.bias is None


def test_geglu_against_its_formula() -> None:
    torch.manual_seed(0)
    layer, x = GEGLU(6).double(), torch.randn(3, 6, dtype=torch.float64)
    a, g = (x @ w.T + b for w, b in zip(layer.up.weight.chunk(2), layer.up.bias.chunk(2), strict=True))
    gelu = g / 2 * (1 + torch.erf(g / math.sqrt(2)))
    assert torch.allclose(layer(x), (a * gelu) @ layer.down.weight.T + layer.down.bias, atol=1e-12)


def test_a_block_without_context_attends_to_itself_twice() -> None:
    torch.manual_seed(0)
    block, x = TransformerBlock(8, None, 2, 0.0).double(), torch.randn(2, 5, 8, dtype=torch.float64)
    h = x + block.self_attention(block.norm1(x), block.norm1(x))
    h = h + block.cross_attention(block.norm2(h), block.norm2(h))
    assert torch.allclose(block(x, None, None), h + block.feed_forward(block.norm3(h)), atol=1e-12)


def test_spatial_transformer_starts_as_the_identity_and_permutes_with_positions() -> None:
    torch.manual_seed(0)
    layer, x, tokens = SpatialTransformer(8, 6, 2, 2), torch.randn(2, 8, 3, 4), torch.randn(2, 5, 6)
    assert torch.equal(layer(x, tokens), x)
    torch.nn.init.normal_(layer.proj_out.weight)
    out = layer(x, tokens)
    assert (out - x).abs().max() > 0.1
    order = torch.randperm(12)

    def permuted(t: Tensor) -> Tensor:
        return t.flatten(2)[:, :, order].view_as(t)

    assert torch.allclose(layer(permuted(x), tokens), permuted(out), atol=1e-5)


def test_a_block_with_context_attends_to_itself_then_reads_then_feeds_forward() -> None:
    torch.manual_seed(0)
    block, x = TransformerBlock(8, 6, 2, 0.0).double(), torch.randn(2, 5, 8, dtype=torch.float64)
    context = torch.randn(2, 5, 6, dtype=torch.float64)
    h = x + block.self_attention(block.norm1(x), block.norm1(x))
    h = h + block.cross_attention(block.norm2(h), context, MASK)
    assert torch.allclose(block(x, context, MASK), h + block.feed_forward(block.norm3(h)), atol=1e-12)


def test_linear_projections_are_the_same_function_of_other_weights() -> None:
    torch.manual_seed(0)
    convolved = SpatialTransformer(8, 6, 2, 2, zero_init=False).double()
    linear = SpatialTransformer(8, 6, 2, 2, zero_init=False, linear_projections=True).double()
    weights = convolved.state_dict()
    assert weights["proj_in.weight"].shape == weights["proj_out.weight"].shape == (8, 8, 1, 1)
    linear.load_state_dict({k: v.view(linear.state_dict()[k].shape) for k, v in weights.items()})
    x, tokens = torch.randn(2, 8, 3, 4, dtype=torch.float64), torch.randn(2, 5, 6, dtype=torch.float64)
    assert torch.allclose(linear(x, tokens, MASK), convolved(x, tokens, MASK), atol=1e-12)
    assert torch.equal(SpatialTransformer(8, None, 2, 1, linear_projections=True).double()(x), x)


def test_plain_attention_against_its_formula() -> None:
    """Group norm, two heads of four channels, queries, keys and values with bias, the result added."""
    torch.manual_seed(0)
    block, x = AttentionBlock(8, 2, zero_init=False).double(), torch.randn(2, 8, 3, 4, dtype=torch.float64)
    assert block.norm.eps == 1e-5
    for p in block.norm.parameters():
        torch.nn.init.normal_(p)
    rows = block.norm(x).flatten(2).mT
    a = block.attention
    read = []
    for head in range(2):
        s = slice(4 * head, 4 * head + 4)
        q, k, v = (rows @ f.weight[s].T + f.bias[s] for f in (a.query, a.key, a.value))
        read.append((q @ k.mT / 2).softmax(-1) @ v)
    expected = x + (torch.cat(read, -1) @ a.out.weight.T + a.out.bias).mT.reshape(x.shape)
    assert torch.allclose(block(x), expected, atol=1e-12)
    assert torch.equal(AttentionBlock(8, 2).double()(x), x)

"""The shared pieces against explicit formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from calotype.nn.layers import Downsample, ResBlock, Upsample, double, group_norm, halve, timestep_embedding, zero


def convolved(x: Tensor, conv: nn.Conv2d, top_left: int, stride: int, side: int) -> Tensor:
    """A 3x3 convolution pixel by pixel; `top_left` pixels of zeros lie above and left, as many as needed elsewhere."""
    b, _, h, w = x.shape
    padded = x.new_zeros(b, x.shape[1], h + 4, w + 4)
    padded[:, :, top_left : top_left + h, top_left : top_left + w] = x
    out = x.new_empty(b, conv.out_channels, side, side)
    for i in range(side):
        for j in range(side):
            patch = padded[:, :, i * stride : i * stride + 3, j * stride : j * stride + 3]
            out[:, :, i, j] = (patch[:, None] * conv.weight).sum((2, 3, 4))
    return out if conv.bias is None else out + conv.bias[:, None, None]


def image(channels: int = 4, side: int = 6) -> Tensor:
    return torch.randn(2, channels, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("asymmetric", [True, False])
def test_downsample(asymmetric: bool) -> None:
    """Autoencoders pad right and bottom only, the UNet all around."""
    torch.manual_seed(0)
    layer, x = Downsample(4, asymmetric=asymmetric).double(), image()
    expected = convolved(x, layer.conv, 0 if asymmetric else 1, 2, 3)
    assert torch.allclose(layer(x), expected, atol=1e-12)


def test_upsample() -> None:
    torch.manual_seed(0)
    layer, x = Upsample(4).double(), image()
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(layer(x), convolved(doubled, layer.conv, 1, 1, 12), atol=1e-12)


def normed(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    groups = x.unflatten(1, (norm.num_groups, -1))
    mean, var = groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), correction=0, keepdim=True)
    out = ((groups - mean) / (var + norm.eps).sqrt()).view_as(x)
    return out * norm.weight[:, None, None] + norm.bias[:, None, None]


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


@pytest.mark.parametrize("channels", [8, 12])
@pytest.mark.parametrize("embedding", [None, 5])
def test_res_block(channels: int, embedding: int | None) -> None:
    torch.manual_seed(0)
    block, x = ResBlock(8, channels, embedding=embedding, eps=1e-3).double(), image(8)
    for norm in (block.norm1, block.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    emb = None if embedding is None else torch.randn(2, embedding, dtype=torch.float64)
    h = convolved(silu(normed(x, block.norm1)), block.conv1, 1, 1, 6)
    if emb is not None and block.embed is not None:
        h = h + (emb @ block.embed.weight.T + block.embed.bias)[:, :, None, None]
    h = convolved(silu(normed(h, block.norm2)), block.conv2, 1, 1, 6)
    skip = x
    if channels != 8:
        assert isinstance(block.skip, nn.Conv2d)
        skip = torch.einsum("dc,bchw->bdhw", block.skip.weight[:, :, 0, 0], x) + block.skip.bias[:, None, None]
    assert torch.allclose(block(x, emb), skip + h, atol=1e-12)


def filled(block: ResBlock) -> ResBlock:
    """Random gains and biases, for those of a fresh norm hide what comes before and after."""
    for norm in (block.norm1, block.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return block


def test_adaptive_group_norm() -> None:
    """Scale is the first half of what the embedding says, shift the second; both act after the norm's own gain."""
    torch.manual_seed(0)
    block, x = filled(ResBlock(8, 8, embedding=5, eps=1e-3, scale_shift=True).double()), image(8)
    emb = torch.randn(2, 5, dtype=torch.float64)
    assert block.embed is not None and block.embed.weight.shape == (16, 5)
    scale, shift = (
        (emb @ block.embed.weight[half].T + block.embed.bias[half])[:, :, None, None]
        for half in (slice(0, 8), slice(8, 16))
    )
    h = convolved(silu(normed(x, block.norm1)), block.conv1, 1, 1, 6)
    h = convolved(silu(normed(h, block.norm2) * (1 + scale) + shift), block.conv2, 1, 1, 6)
    assert torch.allclose(block(x, emb), x + h, atol=1e-12)


def test_adaptive_group_norm_needs_an_embedding() -> None:
    with pytest.raises(ValueError, match="scale and shift are made of an embedding"):
        ResBlock(8, 8, scale_shift=True)


def by_hand(x: Tensor, side: int) -> Tensor:
    """The mean of 2 x 2 positions, or each position four times, one by one."""
    out = x.new_empty(*x.shape[:2], side, side)
    for i in range(side):
        for j in range(side):
            if side < x.shape[-1]:
                out[:, :, i, j] = sum(x[:, :, 2 * i + a, 2 * j + b] for a in (0, 1) for b in (0, 1)) / 4
            else:
                out[:, :, i, j] = x[:, :, i // 2, j // 2]
    return out


@pytest.mark.parametrize(("resample", "side"), [(halve, 3), (double, 12)])
@pytest.mark.parametrize("channels", [8, 12])
def test_res_block_that_resamples(resample, side: int, channels: int) -> None:
    """Between the first activation and the first convolution, and on the skip before its own."""
    torch.manual_seed(0)
    block, x = filled(ResBlock(8, channels, embedding=5, eps=1e-3, resample=resample).double()), image(8)
    emb = torch.randn(2, 5, dtype=torch.float64)
    h = convolved(by_hand(silu(normed(x, block.norm1)), side), block.conv1, 1, 1, side)
    assert block.embed is not None
    h = h + (emb @ block.embed.weight.T + block.embed.bias)[:, :, None, None]
    h = convolved(silu(normed(h, block.norm2)), block.conv2, 1, 1, side)
    assert torch.allclose(block(x, emb), block.skip(by_hand(x, side)) + h, atol=1e-12)
    start = ResBlock(8, 8, embedding=5, zero_init=True, resample=resample).double()
    assert torch.allclose(start(x, emb), by_hand(x, side), atol=1e-15)


def test_res_block_can_start_as_the_identity() -> None:
    x = image(8).float()
    assert torch.equal(ResBlock(8, 8, zero_init=True)(x), x)
    assert not torch.equal(ResBlock(8, 8)(x), x)


def test_zero() -> None:
    for layer in (zero(nn.Conv2d(2, 3, 1)), zero(nn.Linear(2, 3, bias=False))):
        assert not any(p.any() for p in layer.parameters())


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (4, 1), (8, 2), (64, 16), (96, 24), (128, 32), (320, 32), (132, 22)]
)
def test_group_norm(channels: int, groups: int) -> None:
    norm = group_norm(channels, 1e-6)
    assert (norm.num_groups, norm.eps) == (groups, 1e-6)


def test_timestep_embedding() -> None:
    """cos first; frequencies fall from 1 to almost 1 / 10000; an odd width ends with a zero."""
    t = torch.tensor([0.0, 1.0, 312.5, 1000.0])
    emb = timestep_embedding(t, 8)
    expected = [[f(s * 10000 ** (-k / 4)) for f in (math.cos, math.sin) for k in range(4)] for s in t.tolist()]
    assert torch.allclose(emb, torch.tensor(expected), atol=1e-4)
    assert emb.dtype == timestep_embedding(t.double(), 8).dtype == torch.float32
    odd = timestep_embedding(t, 9)
    assert torch.equal(odd[:, :8], emb) and not odd[:, 8].any()

"""Where the U-ViT's convolutions and its transformer are, and that each is what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.nn.layers import ResBlock
from calotype.nn.stem import Patches, Wavelet
from calotype.nn.uvit import ModulatedBlock, UViTConfig, positions

SMALL = UViTConfig(3, 3, 8, (1, 2, 4), blocks=(1, 2, 3), head_width=8)
TIME = torch.tensor([3.0, 700.0])


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_convolutions_above_a_transformer_below() -> None:
    network = SMALL.build()
    assert [len(blocks) for blocks in network.down] == [1, 2] and [len(blocks) for blocks in network.up] == [2, 1]
    assert all(isinstance(block, ResBlock) for way in (network.down, network.up) for level in way for block in level)
    assert len(network.transformer) == 3
    for part in (network.proj_in, network.transformer, network.proj_out):
        assert not [m for m in part.modules() if isinstance(m, nn.Conv2d)]


def test_maps_by_level() -> None:
    """16 x 8 pixels, halved by the stem and twice more."""
    network = replace(SMALL, stem=Wavelet(1)).build()
    seen: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        if isinstance(module, ResBlock | ModulatedBlock):
            module.register_forward_hook(lambda m, args, out, name=name: seen.update({name: tuple(out.shape[1:])}))
    network(draw(2, 3, 16, 8), TIME, Condition())
    assert seen == {
        "down.0.0": (8, 8, 4),
        "down.1.0": (16, 4, 2),
        "down.1.1": (16, 4, 2),
        "transformer.0": (2, 32),
        "transformer.1": (2, 32),
        "transformer.2": (2, 32),
        "up.0.0": (16, 4, 2),
        "up.0.1": (16, 4, 2),
        "up.1.0": (8, 8, 4),
    }


def test_number_of_parameters() -> None:
    """Counted by hand, block by block."""

    def conv(i: int, o: int, k: int = 3) -> int:
        return k * k * i * o + o

    def linear(i: int, o: int) -> int:
        return i * o + o

    def res(i: int, o: int, e: int) -> int:
        return 2 * i + conv(i, o) + linear(e, o) + 2 * o + conv(o, o) + (conv(i, o, 1) if i != o else 0)

    a, b, c, e = 8, 16, 32, 32
    attention = 3 * c * c + linear(c, c)
    cross = 2 * c + c * c + 2 * 6 * c + linear(c, c)
    block = linear(e, 4 * c) + attention + cross + linear(c, 4 * c) + linear(4 * c, c)
    down = res(a, a, e) + conv(a, a) + res(a, b, e) + res(b, b, e) + conv(b, b)
    up = conv(b, b) + res(b + b, b, e) + res(b + b, b, e) + conv(b, b) + res(b + a, a, e)
    ends = linear(a, e) + linear(e, e) + conv(3, a) + 2 * a + conv(a, 3)
    total = ends + down + linear(b, c) + 3 * block + linear(c, b) + up
    assert sum(p.numel() for p in replace(SMALL, context_width=6).build().parameters()) == total


def test_each_block_upward_reads_its_mirror_image() -> None:
    """What a block on the way down found reaches the block opposite, as it is, beside what comes from below."""
    network = SMALL.build()
    out: dict[str, Tensor] = {}
    seen: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, ResBlock):
            module.register_forward_hook(lambda m, args, h, name=name: out.update({name: h}))
            module.register_forward_pre_hook(lambda m, args, name=name: seen.update({name: args[0]}))
    network(draw(2, 3, 16, 8), TIME, Condition())
    for up, down in (("up.0.0", "down.1.1"), ("up.0.1", "down.1.0"), ("up.1.0", "down.0.0")):
        assert torch.equal(seen[up][:, -out[down].shape[1] :], out[down])


def test_the_block_is_adaptive_norm_attention_and_mlp() -> None:
    """Against torch's own layers."""
    torch.manual_seed(0)
    block = ModulatedBlock(16, 12, 6, 2, 0.0, zero_init=False).eval()
    x, emb, tokens = draw(2, 5, 16), draw(2, 12), draw(2, 3, 6)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    theirs = nn.MultiheadAttention(16, 2, bias=False, batch_first=True)
    cross = nn.MultiheadAttention(16, 2, bias=False, batch_first=True, kdim=6, vdim=6)
    own, other = block.self_attention, block.cross_attention
    assert other is not None and block.norm2 is not None
    theirs.in_proj_weight.data = torch.cat([own.query.weight, own.key.weight, own.value.weight]).data
    cross.q_proj_weight.data, cross.k_proj_weight.data = other.query.weight.data, other.key.weight.data
    cross.v_proj_weight.data = other.value.weight.data
    theirs.out_proj.weight.data, cross.out_proj.weight.data = own.out.weight.data, other.out.weight.data

    def norm(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        mean, variance = h.mean(-1, keepdim=True), h.var(-1, keepdim=True, correction=0)
        return (h - mean) / (variance + 1e-5).sqrt() * (1 + scale) + shift

    a, b, c, d = block.modulation(emb)[:, None].split(16, -1)
    h = norm(x, a, b)
    y = x + theirs(h, h, h)[0] + own.out.bias
    y = y + cross(block.norm2(y), tokens, tokens, key_padding_mask=~mask)[0] + other.out.bias
    h = norm(y, c, d)
    first, last = block.mlp[0], block.mlp[3]
    y = y + nn.functional.gelu(h @ first.weight.T + first.bias) @ last.weight.T + last.bias
    assert torch.allclose(block(x, emb, Condition(tokens, mask)), y, atol=1e-5)


def test_a_block_starts_as_the_identity_if_it_is_to() -> None:
    torch.manual_seed(0)
    x, emb, cond = draw(2, 5, 16), draw(2, 12), Condition(draw(2, 3, 6))
    assert torch.equal(ModulatedBlock(16, 12, 6, 2, 0.0, zero_init=True)(x, emb, cond), x)
    assert not torch.allclose(ModulatedBlock(16, 12, 6, 2, 0.0, zero_init=False)(x, emb, cond), x, atol=1e-2)


def test_positions_are_distinct_and_know_rows_from_columns() -> None:
    p = positions(6, 9, 32, torch.device("cpu"))
    assert p.shape == (54, 32) and torch.pdist(p).min() > 0.1
    grid = p.unflatten(0, (6, 9))
    assert torch.equal(grid[:, 0, :16], grid[:, 8, :16]) and torch.equal(grid[0, :, 16:], grid[5, :, 16:])
    angle = math.exp(-math.log(1e4) * 3 / 8)
    assert grid[2, 5, 3].item() == pytest.approx(math.cos(2 * angle), abs=1e-6)
    assert grid[2, 5, 16 + 8 + 3].item() == pytest.approx(math.sin(5 * angle), abs=1e-6)
    assert torch.equal(positions(12, 18, 32, torch.device("cpu")).unflatten(0, (12, 18))[:6, :9], grid)


def test_the_transformer_tells_places_apart() -> None:
    """A flat picture on a torus would look the same everywhere but for the positions; so take them away, and see."""
    network = replace(SMALL, multipliers=(2,), blocks=(2,), stem=Patches(2), zero_init=False).build().eval()
    nn.init.normal_(network.conv_out.weight, std=0.3)  # type: ignore[arg-type]
    out = network(torch.ones(1, 3, 8, 8), TIME[:1], Condition())
    places = nn.functional.pixel_unshuffle(out, 2).flatten(2)[0].T
    assert torch.pdist(places).min() > 1e-4


def test_one_level_is_a_plain_transformer() -> None:
    network = replace(SMALL, multipliers=(2,), blocks=(2,), stem=Patches(4)).build()
    assert not network.down and not network.up and len(network.transformer) == 2
    assert network(draw(2, 3, 16, 8), TIME, Condition()).shape == (2, 3, 16, 8)


def test_dropout_at_low_resolutions_alone() -> None:
    network = replace(SMALL, dropout=0.3, dropout_from=4, stem=Patches(2)).build()
    rates = {n: m.p for n, m in network.named_modules() if isinstance(m, nn.Dropout)}
    assert {n.split(".dropout")[0] for n, p in rates.items() if p == 0.0} == {"down.0.0", "up.1.0"}
    assert sum(p == 0.3 for p in rates.values()) == 4 + 3


def test_configs_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="blocks has 2 entries for 3 levels; give one per level, the last for the tra"):
        replace(SMALL, blocks=(1, 2))
    with pytest.raises(ValueError, match="blocks must lie in 1"):
        replace(SMALL, blocks=(1, 0, 2))
    with pytest.raises(ValueError, match="head_width 24 does not divide the width 32"):
        replace(SMALL, head_width=24)
    with pytest.raises(ValueError, match="heads 5 does not divide the width 32"):
        replace(SMALL, heads=5)
    replace(SMALL, channels=9, multipliers=(1, 2, 8), head_width=8)  # only the lowest level has heads


def test_what_it_says_about_wide_attention() -> None:
    config = replace(SMALL, stem=Patches(2))
    assert config.narrower(256, 32) is None
    assert config.narrower(512, 32) == "network.multipliers=[1,2,4,4] network.blocks=[1,2,1,3]"
    assert config.narrower(513, 16) == "network.multipliers=[1,2,4,4,4] network.blocks=[1,2,1,1,3]"

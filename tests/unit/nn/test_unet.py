"""Every route of the condition and every option of the config matters. (Parameter counts: test_published.)"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.errors import UserError
from calotype.nn.attention import AttentionBlock, SpatialTransformer
from calotype.nn.layers import ResBlock
from calotype.nn.stem import Convolution, Patches
from calotype.nn.unet import AtFactors, UNet, UNetConfig
from calotype.registry import from_plain, to_plain

F, T = False, True
SMALL = UNetConfig(channels=8, multipliers=(1, 2), blocks=1, attention=(F, T), head_width=8)


def build(config: UNetConfig) -> UNet:
    """With random weights where a fresh network has zeros, for those hide everything else."""
    torch.manual_seed(0)
    network = config.build().eval()
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.3)
    return network


def latent(channels: int = 4) -> Tensor:
    return torch.randn(2, channels, 8, 4, generator=torch.Generator().manual_seed(1))


TIME = torch.tensor([3.0, 700.0])


def test_starts_as_zero_and_every_branch_as_the_identity() -> None:
    torch.manual_seed(0)
    network = replace(SMALL, context_width=6).build()
    assert not network(latent(), TIME, Condition(tokens=torch.randn(2, 3, 6))).any()
    h = torch.randn(2, 16, 4, 4)
    stage = network.middle1
    assert torch.equal(stage(h, torch.randn(2, 32), Condition(tokens=torch.randn(2, 3, 6))), h)


def test_the_time_and_every_sample_matter_on_their_own() -> None:
    network, x = build(SMALL), latent()
    both = network(x, TIME, Condition())
    assert both.shape == x.shape
    alone = torch.cat([network(x[i : i + 1], TIME[i : i + 1], Condition()) for i in range(2)])
    assert torch.allclose(both, alone, atol=1e-5)
    assert not torch.allclose(both, network(x, TIME + 50, Condition()), atol=1e-3)


@pytest.mark.parametrize(
    ("route", "config", "shape"),
    [
        ("tokens", replace(SMALL, context_width=6), (2, 3, 6)),
        ("vector", replace(SMALL, vector_width=5), (2, 5)),
        ("spatial", replace(SMALL, in_channels=6), (2, 2, 8, 4)),
    ],
)
def test_a_route_changes_the_output_and_gets_gradient(route: str, config: UNetConfig, shape: tuple[int, ...]) -> None:
    network = build(config)
    a, b = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2)).unbind()
    a.requires_grad_()
    of_a, of_b = (network(latent(), TIME, Condition(**{route: v})) for v in (a, b))
    assert of_a.shape == latent().shape
    assert (of_a - of_b).abs().max() > 1e-3
    of_a.square().sum().backward()
    assert a.grad is not None and a.grad.flatten(1).any(1).all()


def test_routes_together() -> None:
    network = build(replace(SMALL, in_channels=6, context_width=6, vector_width=5))
    cond = Condition(torch.randn(2, 3, 6), None, torch.randn(2, 2, 8, 4), torch.randn(2, 5))
    assert network(latent(), TIME, cond).isfinite().all()


def test_masked_tokens_have_no_influence() -> None:
    network = build(replace(SMALL, context_width=6))
    tokens = torch.randn(2, 4, 6)
    mask = torch.tensor([[T, T, F, F], [T, F, F, T]])
    expected = network(latent(), TIME, Condition(tokens, mask))
    other = torch.where(mask[:, :, None], tokens, 100 * torch.randn(2, 4, 6))
    assert torch.equal(network(latent(), TIME, Condition(other, mask)), expected)
    short = network(latent()[:1], TIME[:1], Condition(tokens[:1, :2]))
    assert torch.allclose(short, expected[:1], atol=1e-5)


def test_the_order_of_tokens_does_not_matter() -> None:
    network, tokens = build(replace(SMALL, context_width=6)), torch.randn(2, 4, 6)
    a, b = (network(latent(), TIME, Condition(tokens=t)) for t in (tokens, tokens.flip(1)))
    assert torch.allclose(a, b, atol=1e-5)


def test_dropout_acts_in_training_only() -> None:
    network, x = build(replace(SMALL, dropout=0.5)), latent()
    assert torch.equal(network(x, TIME, Condition()), network(x, TIME, Condition()))
    network.train()
    assert not torch.equal(network(x, TIME, Condition()), network(x, TIME, Condition()))


@pytest.mark.parametrize("side", [(7, 4), (8, 5)])
def test_sides_that_cannot_be_halved(side: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 2"):
        SMALL.build()(torch.zeros(1, 4, *side), torch.zeros(1), Condition())


@pytest.mark.parametrize(
    ("config", "cond"),
    [
        (SMALL, Condition(tokens=torch.zeros(1, 2, 6))),
        (SMALL, Condition(vector=torch.zeros(1, 6))),
        (replace(SMALL, context_width=6), Condition()),
        (replace(SMALL, context_width=6), Condition(tokens=torch.zeros(1, 2, 7))),
        (replace(SMALL, vector_width=6), Condition()),
        (replace(SMALL, vector_width=6), Condition(vector=torch.zeros(1, 7))),
    ],
)
def test_conditions_it_was_not_built_for(config: UNetConfig, cond: Condition) -> None:
    with pytest.raises(ValueError, match="built for conditions"):
        config.build()(torch.zeros(1, 4, 8, 8), torch.zeros(1), cond)


def test_configs_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="one per level"):
        UNetConfig(multipliers=(1, 2), attention=(True,))
    with pytest.raises(ValueError, match="does not divide the width 36"):
        UNetConfig(channels=36, multipliers=(1, 2), attention=(True, False), head_width=8)
    with pytest.raises(ValueError, match="does not divide the width 36"):  # the middle always attends
        UNetConfig(channels=12, multipliers=(1, 3), attention=(False, False), head_width=8)
    UNetConfig(channels=12, multipliers=(1, 2), attention=(False, False), head_width=8)
    with pytest.raises(ValueError, match="heads 8 does not divide the width 36"):
        UNetConfig(channels=36, multipliers=(1,), attention=(True,), heads=8)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 0},
        {"channels": 10**9},
        {"multipliers": (1, 0)},
        {"multipliers": (1, 10**6)},
        {"multipliers": (), "attention": ()},
        {"multipliers": (1,) * 30, "attention": (False,) * 30},
        {"blocks": 0},
        {"blocks": -1},
        {"head_width": 0},
        {"heads": 0},
        {"depth": 10**6},
        {"dropout": 1.5},
        {"dropout": float("nan")},
        {"in_channels": 0},
        {"context_width": 0},
        {"vector_width": -3},
    ],
)
def test_sizes_out_of_bounds(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(SMALL, **change)


def test_heads_by_width_or_the_same_everywhere() -> None:
    config = UNetConfig(channels=64, multipliers=(1, 2), attention=(True, True), head_width=32)
    assert [config.heads_at(i) for i in range(2)] == [2, 4]
    assert [replace(config, heads=8).heads_at(i) for i in range(2)] == [8, 8]
    x, cond = torch.randn(1, 4, 8, 8), Condition()
    assert replace(config, heads=8).build()(x, TIME[:1], cond).shape == x.shape


def test_blocks_per_level() -> None:
    """Capacity where it is cheap: one number for all levels, or one each, with the mirror image on the way up."""
    each, all_alike = (replace(SMALL, blocks=blocks).build().state_dict() for blocks in ((2, 2), 2))
    assert each.keys() == all_alike.keys()
    network = build(replace(SMALL, blocks=(1, 3)))
    assert [[len(stages) for stages in way] for way in (network.down, network.up)] == [[1, 3], [4, 2]]  # type: ignore[arg-type]
    assert network(latent(), TIME, Condition()).shape == latent().shape
    with pytest.raises(ValueError, match="blocks has 3 entries for 2 levels"):
        replace(SMALL, blocks=(1, 2, 3))
    with pytest.raises(ValueError, match="blocks must lie in 1"):
        replace(SMALL, blocks=(1, 0))


def test_dropout_at_low_resolutions_alone() -> None:
    config = UNetConfig(channels=8, multipliers=(1, 2, 2), blocks=1, attention=(F, T, T), head_width=8, dropout=0.3)

    def rates(config: UNetConfig) -> dict[str, set[float]]:
        found: dict[str, set[float]] = {}
        for name, module in config.build().named_modules():
            if isinstance(module, nn.Dropout):
                level = name.split(".")[1] if name.startswith(("down", "up")) else ""
                found.setdefault(f"{name.split('.')[0]}{level}", set()).add(module.p)
        return found

    all_on = rates(config)
    assert {*all_on} == {"down0", "down1", "down2", "middle1", "middle2", "up0", "up1", "up2"}
    assert all(p == {0.3} for p in all_on.values())
    below = rates(replace(config, dropout_from=2))
    assert {name for name, p in below.items() if p == {0.0}} == {"down0", "up2"}
    lowest = rates(replace(config, dropout_from=8, stem=Patches(2)))
    assert {name for name, p in lowest.items() if p == {0.3}} == {"down2", "middle1", "middle2", "up0"}


def test_a_stem_makes_all_maps_smaller_and_keeps_the_rest() -> None:
    plain, small = (replace(SMALL, stem=stem).build() for stem in (Convolution(), Patches(2)))
    assert {k: v.shape for k, v in plain.state_dict().items() if not k.startswith("conv_")} == {
        k: v.shape for k, v in small.state_dict().items() if not k.startswith("conv_")
    }
    seen = []
    small.middle1.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    assert small(latent(), TIME, Condition()).shape == latent().shape
    assert seen == [(2, 16, 2, 1)]


THREE = UNetConfig(
    channels=8, multipliers=(1, 2, 2), blocks=1, attention=(F, T, T), head_width=8, context_width=6, vector_width=5
)
ALONE = replace(THREE, plain_attention=True, context_width=None)
OPTIONS = {
    "scale_shift": replace(THREE, scale_shift=True),
    "resblock_updown": replace(THREE, resblock_updown=True),
    "linear_projections": replace(THREE, linear_projections=True),
    "plain_attention": ALONE,
    "attention by factor": replace(THREE, attention=AtFactors((1, 4))),
    "heads by level": replace(THREE, heads=(1, 2, 4)),
    "width of heads by level": replace(THREE, head_width=(8, 16, 4)),
    "depth by level": replace(THREE, depth=(1, 2, 3)),
    "vector_mlp": replace(THREE, vector_mlp=False, vector_width=32),
    "time_width": replace(THREE, time_width=12),
    "as in ADM": replace(
        ALONE,
        scale_shift=True,
        resblock_updown=True,
        vector_mlp=False,
        time_width=16,
        vector_width=64,
        blocks=(1, 2, 1),
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option(name: str) -> None:
    """Zero at first, finite then, the same for a sample alone, changed by time and conditions; all weights learn."""
    config = OPTIONS[name]
    assert from_plain(to_plain(config), UNetConfig) == config

    def draw(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))

    def cond(scale: float = 1.0) -> Condition:
        tokens = None if config.context_width is None else scale * draw(3, config.context_width)
        return Condition(tokens=tokens, vector=scale * draw(config.vector_width or 1))

    assert not config.build()(latent(), TIME, cond()).any()
    network = build(config)
    out = network(latent(), TIME, cond())
    assert out.shape == latent().shape and out.isfinite().all()
    alone = [network(latent()[i : i + 1], TIME[i : i + 1], cond()[i : i + 1]) for i in range(2)]
    assert torch.allclose(out, torch.cat(alone), atol=1e-4)
    assert not torch.allclose(out, network(latent(), TIME + 50, cond()), atol=1e-3)
    assert not torch.allclose(out, network(latent(), TIME, cond(-1.0)), atol=1e-3)
    out.square().sum().backward()
    for key, p in network.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), key


def test_options_change_what_they_name_and_nothing_else() -> None:
    def shapes(config: UNetConfig) -> dict[str, torch.Size]:
        return {k: v.shape for k, v in config.build().state_dict().items()}

    def changed(**change: Any) -> set[str]:
        a, b = shapes(THREE), shapes(replace(THREE, **change))
        return {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)}

    def only(keys: set[str], *parts: str) -> bool:
        return bool(keys) and all(any(part in key for part in parts) for key in keys)

    assert only(changed(scale_shift=True), ".embed.")
    assert only(changed(resblock_updown=True), "downsamples.", "upsamples.")
    assert only(changed(linear_projections=True), "proj_in.weight", "proj_out.weight")
    assert not changed(heads=(1, 2, 4)) and not changed(attention=AtFactors((2, 4)))
    assert only(changed(vector_mlp=False, vector_width=32), "vector.")
    assert only(changed(time_width=12), "time.", "vector.", ".embed.")
    assert only(changed(depth=2), ".blocks.1.")


def test_resampling_blocks_are_where_convolutions_were() -> None:
    config = replace(THREE, resblock_updown=True, dropout=0.3, dropout_from=2, stem=Convolution())
    network = config.build()
    for blocks, widths in ((network.downsamples, (8, 16)), (network.upsamples, (16, 16))):
        assert [b.conv1.in_channels for b in blocks] == [b.conv2.out_channels for b in blocks] == [*widths]  # type: ignore[union-attr]
    # dropout goes by the size of the maps that it would see, which are those behind the resampling
    assert [b.dropout.p for b in network.downsamples] == [0.3, 0.3]  # type: ignore[union-attr]
    assert [b.dropout.p for b in network.upsamples] == [0.3, 0.0]  # type: ignore[union-attr]
    assert all(isinstance(b, ResBlock) and b.embed is not None for b in network.downsamples)


def test_a_class_is_added_to_the_time() -> None:
    """The vector as it is: what it says is what the time's embedding would have to say."""
    config = replace(OPTIONS["vector_mlp"], context_width=None)
    network, silent = build(config), build(replace(config, vector_width=None))
    silent.load_state_dict(network.state_dict())
    table = nn.Embedding(3, 32)
    vector = table(torch.tensor([2, 0]))
    told = network(latent(), TIME, Condition(vector=vector))
    silent.time.register_forward_hook(lambda module, args, out: out + vector)
    assert torch.equal(told, silent(latent(), TIME, Condition()))
    told.square().sum().backward()
    assert table.weight.grad is not None and table.weight.grad.any(1).tolist() == [True, False, True]


def test_where_attention_is() -> None:
    def places(attention: tuple[bool, ...] | AtFactors, kind: type = SpatialTransformer, **change: Any) -> set[str]:
        network = replace(THREE if kind is SpatialTransformer else ALONE, attention=attention, **change).build()
        return {k.split(".")[0] + k.split(".")[1] for k, m in network.named_modules() if isinstance(m, kind)}

    assert places((F, T, F)) == places(AtFactors((2,))) == {"down1", "middle1transformer", "up1"}
    assert places(AtFactors((4, 1)), AttentionBlock) == {"down0", "down2", "middle1attention", "up0", "up2"}
    assert places(AtFactors()) == {"middle1transformer"}
    assert places(AtFactors((2,)), stem=Patches(2)) == {"down0", "middle1transformer", "up2"}
    assert AtFactors.of_sides(64, 32, 16, 8) == AtFactors((2, 4, 8))
    assert replace(THREE, attention=AtFactors((1, 2))).narrower(64, 32) == "network.attention=[false, true, false]"


def test_heads_by_level() -> None:
    network = replace(THREE, attention=(T, T, T), heads=(1, 2, 4)).build()
    for stages, heads in ((network.down[1], 2), (network.up[0], 4), (network.up[2], 1)):
        block = stages[0].transformer.blocks[0]  # type: ignore[index,union-attr]
        assert block.self_attention.heads == block.cross_attention.heads == heads
    assert network.middle1.transformer is not None and network.middle1.transformer.blocks[0].self_attention.heads == 4
    by_width = replace(THREE, head_width=(8, 16, 4))
    assert [by_width.heads_at(i) for i in range(3)] == [1, 1, 4]


def test_depth_by_level() -> None:
    network = replace(THREE, depth=(1, 2, 3)).build()
    of = {
        k.split(".")[0] + k.split(".")[1]: len(m.blocks) for k, m in network.named_modules() if k[-11:] == "transformer"
    }
    assert of == {"down1": 2, "down2": 3, "middle1transformer": 3, "up0": 3, "up1": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": AtFactors((2, 16))}, "names 16, but maps are 1, 2, 4 times smaller"),
        ({"heads": (1, 2)}, "heads has 2 entries for 3 levels"),
        ({"head_width": (8,) * 4}, "head_width has 4 entries for 3 levels"),
        ({"heads": (5, 2, 3)}, "heads 3 does not divide the width 16"),
        ({"depth": (1, 2)}, "depth has 2 entries for 3 levels"),
        ({"depth": (1, 0, 1)}, "depth must lie in 1"),
        ({"time_width": 0}, "time_width must lie in 1"),
    ],
)
def test_options_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(THREE, **change)


def test_heads_matter_where_there_is_attention_alone() -> None:
    replace(THREE, heads=(5, 2, 4))  # level 0 does not attend


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plain_attention": True}, "reads no tokens; take network.plain_attention=false"),
        ({"plain_attention": True, "context_width": None, "depth": 2}, "belong to transformers"),
        ({"plain_attention": True, "context_width": None, "linear_projections": True}, "belong to transformers"),
        ({"vector_mlp": False}, "must be 32 wide, like the time's embedding, got 5"),
    ],
)
def test_combinations_that_cannot_be(change: dict[str, Any], message: str) -> None:
    """A config meets its conditions late, in a run; what does not fit is told in a sentence, not in a traceback."""
    with pytest.raises(UserError, match=message):
        replace(THREE, **change)


@pytest.mark.parametrize(("side", "sides"), [(64, (48,)), (64, (0,)), (8, (16,))])
def test_sides_that_maps_cannot_have(side: int, sides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"maps of an input {side} wide are no {sides[0]} wide"):
        AtFactors.of_sides(side, *sides)


def test_channels_it_was_not_built_for() -> None:
    with pytest.raises(ValueError, match="built for 4 channels, got 3"):
        SMALL.build()(torch.zeros(1, 3, 8, 8), torch.zeros(1), Condition())
    with pytest.raises(ValueError, match="4 of the latent and 2 of the spatial"):
        SMALL.build()(torch.zeros(1, 4, 8, 8), torch.zeros(1), Condition(spatial=torch.zeros(1, 2, 8, 8)))

"""The UNet's parameter counts are those of the released models; every route of the condition matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.nn.stem import Convolution, Patches
from calotype.nn.unet import UNet, UNetConfig

F, T = False, True
IMAGENET = UNetConfig(channels=256, multipliers=(1, 2, 4), attention=(T, T, T), context_width=512)
STABLE = UNetConfig(channels=320, multipliers=(1, 2, 4, 4), attention=(T, T, T, F), head_width=40, context_width=768)
WIDE = UNetConfig(3, 3, channels=192, multipliers=(1, 2, 3, 5), attention=(F, T, T, T), context_width=512)

# Rombach et al. 2022, tables 13 and 15, and their released configs; the numbers follow from the layout.
COUNTS = {
    "stable diffusion 1": (STABLE, 859_520_964),
    "stable diffusion 1, inpainting": (replace(STABLE, in_channels=9), 859_535_364),
    "text to image": (replace(STABLE, context_width=1280), 872_300_484),
    "text to image, 256": (replace(WIDE, context_width=640), 403_623_939),
    "class-conditional, f4": (WIDE, 400_920_579),
    "class-conditional, f8": (IMAGENET, 394_984_196),
    "class-conditional, f16": (replace(IMAGENET, in_channels=8, out_channels=8), 395_002_632),
    "class-conditional, f32": (replace(IMAGENET, in_channels=32, out_channels=32), 395_113_248),
    "class-conditional, f1": (
        UNetConfig(3, 3, 192, (1, 1, 2, 2, 4, 4), attention=(F, F, F, T, T, T), context_width=512),
        396_835_971,
    ),
    "class-conditional, f2": (
        UNetConfig(2, 2, 192, (1, 2, 2, 4, 4), attention=(F, F, T, T, T), context_width=512),
        390_888_578,
    ),
    "layout, f4": (
        UNetConfig(3, 3, 128, (1, 2, 3, 4), attention=(F, T, T, T), depth=3, context_width=512),
        246_277_379,
    ),
    "layout, f8": (
        UNetConfig(channels=192, multipliers=(1, 2, 4), attention=(T, T, T), depth=2, context_width=512),
        312_241_540,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count(name: str) -> None:
    config, count = COUNTS[name]
    with torch.device("meta"):
        network = config.build()
    assert sum(p.numel() for p in network.parameters()) == count
    assert not [*network.buffers()]


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
    assert [config.heads_at(w) for w in config.widths] == [2, 4]
    assert [replace(config, heads=8).heads_at(w) for w in config.widths] == [8, 8]
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


def test_channels_it_was_not_built_for() -> None:
    with pytest.raises(ValueError, match="built for 4 channels, got 3"):
        SMALL.build()(torch.zeros(1, 3, 8, 8), torch.zeros(1), Condition())
    with pytest.raises(ValueError, match="4 of the latent and 2 of the spatial"):
        SMALL.build()(torch.zeros(1, 4, 8, 8), torch.zeros(1), Condition(spatial=torch.zeros(1, 2, 8, 8)))

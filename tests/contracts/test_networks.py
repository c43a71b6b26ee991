"""What every registered network must do, behind every stem."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from calotype.condition import Condition
from calotype.config import apply_overrides
from calotype.nn.network import Network, NetworkConfig, networks
from calotype.nn.stem import Convolution, Patches, Stem, Wavelet
from calotype.nn.unet import UNetConfig
from calotype.nn.uvit import UViTConfig
from calotype.registry import from_plain, to_plain

SMALL: dict[str, NetworkConfig] = {
    "unet": UNetConfig(3, 3, 8, (1, 2), blocks=1, attention=(False, True), head_width=8),
    "unet-adm": UNetConfig(
        3,
        3,
        8,
        (1, 2),
        blocks=1,
        attention=(False, True),
        head_width=8,
        scale_shift=True,
        resblock_updown=True,
        linear_projections=True,
    ),
    "uvit": UViTConfig(3, 3, 8, (1, 2), blocks=(1, 2), head_width=8),
}
STEMS: list[Stem] = [Convolution(), Patches(2), Wavelet(1), Wavelet(2)]
TIME = torch.tensor([3.0, 700.0])
HEIGHT, WIDTH = 16, 8


def test_every_member_is_tested_here() -> None:
    assert {*networks} == {networks.name_of(config) for config in SMALL.values()}


@pytest.fixture(params=itertools.product(SMALL, STEMS), ids=lambda p: f"{p[0]}-{p[1]}")
def config(request: pytest.FixtureRequest) -> NetworkConfig:
    name, stem = request.param
    return replace(SMALL[name], stem=stem)


ROUTED = {"in_channels": 5, "context_width": 6, "vector_width": 7}


def built(config: NetworkConfig) -> Network:
    """With random weights where a fresh network has zeros, for those hide everything else."""
    torch.manual_seed(0)
    network = config.build().eval()
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.3)
    return network


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def condition(seed: int = 2) -> Condition:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    return Condition(draw(2, 3, 6, seed=seed), mask, draw(2, 2, HEIGHT, WIDTH, seed=seed), draw(2, 7, seed=seed))


def test_comes_back_from_a_file(config: NetworkConfig) -> None:
    assert from_plain(to_plain(config), NetworkConfig, "network") == config


def test_answers_in_the_shape_of_the_latent_and_with_zero_at_first(config: NetworkConfig) -> None:
    x = draw(2, 3, HEIGHT, WIDTH)
    out = config.build()(x, TIME, Condition())
    assert out.shape == x.shape and not out.any()
    assert built(config)(x, TIME, Condition()).any()
    assert replace(config, out_channels=6).build()(x, TIME, Condition()).shape == (2, 6, HEIGHT, WIDTH)


def test_every_branch_starts_as_the_identity_if_it_is_to(config: NetworkConfig) -> None:
    """Then the time cannot matter yet; without zero_init it does from the first step on."""
    for zero_init in (True, False):
        torch.manual_seed(0)
        network = replace(config, zero_init=zero_init).build().eval()
        for p in network.conv_out.parameters():
            nn.init.normal_(p)
        x = draw(2, 3, HEIGHT, WIDTH)
        same = torch.equal(network(x, TIME, Condition()), network(x, TIME + 50, Condition()))
        assert same == zero_init


def test_the_time_and_every_sample_matter_on_their_own(config: NetworkConfig) -> None:
    network, x = built(config), draw(2, 3, HEIGHT, WIDTH)
    both = network(x, TIME, Condition())
    alone = torch.cat([network(x[i : i + 1], TIME[i : i + 1], Condition()) for i in range(2)])
    assert torch.allclose(both, alone, atol=1e-4)
    assert not torch.allclose(both, network(x, TIME + 50, Condition()), atol=1e-3)


@pytest.mark.parametrize("size", [(8, 8), (32, 16)])
def test_takes_any_size_that_can_be_halved(config: NetworkConfig, size: tuple[int, int]) -> None:
    assert built(config)(draw(1, 3, *size), TIME[:1], Condition()).isfinite().all()
    with pytest.raises(ValueError, match=f"multiples of {config.factor}, got"):
        config.build()(draw(1, 3, size[0], size[1] + config.factor // 2), TIME[:1], Condition())


def test_every_place_sees_every_other(config: NetworkConfig) -> None:
    """Attention at the lowest level: one pixel changed changes all others."""
    network, x = built(config), draw(1, 3, HEIGHT, WIDTH)
    y = x.clone()
    y[..., 0, 0] += 3
    a, b = (network(v, TIME[:1], Condition()) for v in (x, y))
    assert (a != b).any(1).float().mean() > 0.95


def test_every_route_changes_the_output_and_every_weight_gets_gradient(config: NetworkConfig) -> None:
    network, x, a, b = built(replace(config, **ROUTED)), draw(2, 3, HEIGHT, WIDTH), condition(), condition(3)
    out = network(x, TIME, a)
    for route in ("tokens", "spatial", "vector"):
        other = network(x, TIME, replace(a, **{route: getattr(b, route)}))
        assert (out - other).abs().flatten(1).amax(1).min() > 1e-3, route
    out.square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


def test_a_map_that_is_the_same_everywhere_need_not_be_spread(config: NetworkConfig) -> None:
    network, x, told = built(replace(config, **ROUTED)), draw(2, 3, HEIGHT, WIDTH), condition()
    constant = draw(2, 2, 1, 1)
    spread = constant.expand(2, 2, HEIGHT, WIDTH)
    outs = (network(x, TIME, replace(told, spatial=spatial)) for spatial in (constant, spread))
    torch.testing.assert_close(*outs)
    with pytest.raises(ValueError, match="must be as large as the latent"):
        network(x, TIME, replace(told, spatial=spread[..., :-1]))


def test_masked_tokens_have_no_influence(config: NetworkConfig) -> None:
    network, x, cond = built(replace(config, **ROUTED)), draw(2, 3, HEIGHT, WIDTH), condition()
    assert cond.tokens is not None and cond.mask is not None
    other = replace(cond, tokens=torch.where(cond.mask[..., None], cond.tokens, 100 * draw(2, 3, 6, seed=5)))
    assert torch.equal(network(x, TIME, cond), network(x, TIME, other))


@pytest.mark.parametrize("change", [{"context_width": 6}, {"vector_width": 7}, {"in_channels": 5}])
def test_refuses_what_it_was_not_built_for(config: NetworkConfig, change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="built for"):
        config.build()(draw(2, 3, HEIGHT, WIDTH), TIME, condition())
    with pytest.raises(ValueError, match="built for"):
        replace(config, **change).build()(draw(2, 3, HEIGHT, WIDTH), TIME, Condition())


def test_half_precision(config: NetworkConfig) -> None:
    """Under autocast, also far from where pictures are: no NaN, and about the same answer and gradients."""
    network, cond = built(replace(config, **ROUTED)), condition()
    for scale in (1.0, 100.0):
        x = scale * draw(2, 3, HEIGHT, WIDTH)
        exact = network(x, TIME, cond)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(x, TIME, cond)
        assert (rough - exact).norm() < 0.05 * exact.norm()
        network.zero_grad()
        rough.float().square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_dropout_acts_in_training_where_it_may(config: NetworkConfig) -> None:
    x = draw(2, 3, HEIGHT, WIDTH)
    for start in (1, config.factor):
        network = built(replace(config, dropout=0.5, dropout_from=start))
        assert torch.equal(network(x, TIME, Condition()), network(x, TIME, Condition()))
        network.train()
        assert not torch.equal(network(x, TIME, Condition()), network(x, TIME, Condition()))
    rates = [replace(config, dropout=0.5, dropout_from=config.factor).dropout_at(i) for i in range(2)]
    assert rates == [0.0, 0.5]
    with pytest.raises(ValueError, match="must not exceed"):
        replace(config, dropout=0.5, dropout_from=2 * config.factor)


def test_takes_the_memory_of_its_weights_only_when_built(config: NetworkConfig) -> None:
    """The weights can be counted before memory is taken, and a network has nothing but weights to save."""
    with torch.device("meta"):
        network = config.build()
    assert all(p.is_meta for p in network.parameters()) and not [*network.buffers()]


def test_knows_how_to_spare_a_slow_machine(config: NetworkConfig) -> None:
    assert config.narrower(32, 32) is None
    words = config.narrower(256, 8)
    assert words is not None
    changed = apply_overrides({"network": to_plain(config)}, re.split(r" (?=network\.)", words))["network"]
    assert changed != to_plain(config)
    assert from_plain(changed, NetworkConfig, "network").narrower(256, 8) is None


@pytest.mark.parametrize("change", [{"channels": 0}, {"multipliers": ()}, {"head_width": 3}, {"dropout": 1.0}])
def test_refuses_sizes_that_cannot_be(config: NetworkConfig, change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(config, **change)

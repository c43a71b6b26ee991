"""The published networks have exactly the parameters that the papers' and the released weights' layouts come to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calotype.nn.attention import AttentionBlock, SpatialTransformer
from calotype.nn.layers import Downsample, ResBlock, Upsample
from calotype.nn.network import NetworkConfig
from calotype.nn.published import PUBLISHED, PUBLISHED_TAU
from calotype.nn.unet import UNet
from calotype.registry import from_plain, to_plain

COUNTS = {
    "ldm-celebahq": 274_056_163,
    "ldm-ffhq": 274_056_163,
    "ldm-bedrooms": 274_056_163,
    "ldm-churches": 294_966_916,
    "ldm-celebahq-f1": 270_458_115,
    "ldm-celebahq-f2": 264_510_722,
    "ldm-celebahq-f4": 274_056_163,
    "ldm-celebahq-f8": 257_733_124,
    "ldm-celebahq-f16": 257_751_560,
    "ldm-celebahq-f32": 257_862_176,
    "ldm-imagenet-f1": 396_835_971,
    "ldm-imagenet-f2": 390_888_578,
    "ldm-imagenet-f4": 400_920_579,
    "ldm-imagenet-f8": 394_984_196,
    "ldm-imagenet-f16": 395_002_632,
    "ldm-imagenet-f32": 395_113_248,
    "ldm-text": 872_300_484,
    "ldm-text-f4": 403_623_939,
    "ldm-layout-openimages": 246_277_379,
    "ldm-layout-coco": 312_241_540,
    "ldm-super-resolution": 113_622_563,
    "ldm-semantic": 215_229_315,
    "ldm-inpainting": 215_229_315 + 9 * 128,  # one channel more comes in
    "ldm-inpainting-big": 387_245_827,
    "stable-diffusion-1": 859_520_964,
    "stable-diffusion-1-inpainting": 859_535_364,
    "adm-64": 295_904_454 - 1000 * 768,
    "adm-128": 421_529_606 - 1000 * 1024,
    "adm-256": 553_838_086 - 1000 * 1024,
    "adm-256-unconditional": 552_814_086,
    "adm-512": 558_997_638 - 1000 * 1024,
}
"""Of ADM's, the table of classes is taken off, which belongs to the conditioner here."""

PRINTED = {
    **dict.fromkeys(("ldm-celebahq", "ldm-ffhq", "ldm-bedrooms", "ldm-celebahq-f4"), 274),
    "ldm-celebahq-f1": 270,
    "ldm-celebahq-f2": 265,
    "ldm-celebahq-f8": 258,
    "ldm-celebahq-f16": 260,
    "ldm-celebahq-f32": 258,
    "ldm-churches": 294,
    "ldm-imagenet-f1": 396,
    "ldm-imagenet-f2": 391,
    "ldm-imagenet-f8": 395,
    "ldm-imagenet-f16": 395,
    "ldm-imagenet-f32": 395,
    "ldm-semantic": 215,
    "ldm-inpainting": 215,
}
"""Millions in tables 12 to 15 of Rombach et al. 2022, for the rows that count nothing but the network."""


def meta(name: str) -> UNet:
    with torch.device("meta"):
        return PUBLISHED[name].build()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_every_one_is_counted() -> None:
    assert {*COUNTS} == {*PUBLISHED} and {*PRINTED} < {*PUBLISHED} and {*PUBLISHED_TAU} < {*PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_count(name: str) -> None:
    network, config = meta(name), PUBLISHED[name]
    assert count(network) == COUNTS[name]
    assert not [*network.buffers()]
    assert from_plain(to_plain(config), NetworkConfig) == config


@pytest.mark.parametrize("name", PRINTED)
def test_the_papers_own_numbers(name: str) -> None:
    """Three digits; table 14 prints 260 M for a network that by its own hyperparameters has 257.8 M."""
    assert abs(COUNTS[name] / 1e6 - PRINTED[name]) < (2.5 if name == "ldm-celebahq-f16" else 1.0)


TAU = {"ldm-text": 581_994_042, "ldm-layout-openimages": 58_858_496}
"""With the output layer that predicts words and that nothing reads."""


@pytest.mark.parametrize("name", TAU)
def test_what_reads_the_tokens(name: str) -> None:
    config = PUBLISHED_TAU[name]
    with torch.device("meta"):
        tau = config.build()
    assert count(tau) + config.vocabulary * (config.width + 1) == TAU[name]


def test_the_largest_sum_of_table_15() -> None:
    assert COUNTS["ldm-text"] + TAU["ldm-text"] == 1_454_294_526


@pytest.mark.parametrize("name", PUBLISHED_TAU)
def test_tau_is_as_wide_as_what_the_network_reads(name: str) -> None:
    assert PUBLISHED_TAU[name].width == PUBLISHED[name].context_width


def attending(network: UNet) -> list[str]:
    """Where there is attention of either kind."""
    return [k for k, m in network.named_modules() if isinstance(m, AttentionBlock | SpatialTransformer)]


def test_stable_diffusion_has_as_many_tensors_and_heads_as_released() -> None:
    assert len([*meta("stable-diffusion-1").parameters()]) == 686
    config = PUBLISHED["stable-diffusion-1"]
    assert [w // config.heads_at(i) for i, w in enumerate(config.widths)] == [40, 80, 160, 160]
    assert config.attends == (True, True, True, False)


@pytest.mark.parametrize("name", ["ldm-semantic", "ldm-inpainting"])
def test_attention_in_the_middle_alone(name: str) -> None:
    assert attending(meta(name)) == ["middle1.attention"]


def test_super_resolution_attends_at_the_smallest_maps_alone() -> None:
    config = PUBLISHED["ldm-super-resolution"]
    assert config.attends == (False, False, False, True) and config.factors[3] == 8
    assert {name.split(".")[0] + name.split(".")[1] for name in attending(meta("ldm-super-resolution"))} == {
        "down3",
        "middle1attention",
        "up0",
    }


def test_the_large_inpainting_network() -> None:
    network, config = meta("ldm-inpainting-big"), PUBLISHED["ldm-inpainting-big"]
    assert all(isinstance(m, ResBlock) for m in [*network.downsamples, *network.upsamples])
    assert not [m for m in network.modules() if isinstance(m, Downsample | Upsample)]
    assert [config.heads_at(i) for i in range(4)] == [8] * 4


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith(("adm", "ldm-churches"))])
def test_the_time_scales_and_shifts(name: str) -> None:
    network, config = meta(name), PUBLISHED[name]
    blocks = [m for m in network.modules() if isinstance(m, ResBlock)]
    assert all(b.embed.weight.shape == (2 * b.conv2.out_channels, config.embedding_width) for b in blocks)


def test_unconditional_networks_have_no_transformer() -> None:
    for name, config in PUBLISHED.items():
        assert config.plain_attention == (config.context_width is None), name

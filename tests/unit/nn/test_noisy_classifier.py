"""The half UNet: shapes, what it depends on, and that it can learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from calotype.nn.layers import ResBlock
from calotype.nn.noisy_classifier import AttentionPool, NoisyClassifierConfig
from calotype.nn.stem import Patches
from calotype.nn.unet import AtFactors, UNetConfig
from calotype.registry import from_plain, to_plain

HALF = UNetConfig(in_channels=3, channels=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_width=8)
CONFIG = NoisyClassifierConfig(classes=5, half=HALF)
TIME = torch.tensor([3.0, 700.0])


def built(config=CONFIG):
    torch.manual_seed(0)
    network = config.build().eval()
    for p in network.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.3)
    return network


def test_survives_a_config_file():
    assert from_plain(to_plain(CONFIG), NoisyClassifierConfig) == CONFIG


@pytest.mark.parametrize(("side", "stem"), [(8, None), (16, None), (16, Patches(2))])
def test_gives_one_logit_per_class_for_any_size_and_all_alike_at_first(side, stem):
    half = HALF if stem is None else replace(HALF, stem=stem)
    network = NoisyClassifierConfig(classes=5, half=half).build()
    logits = network(torch.randn(2, 3, side, side // 2), TIME)
    assert logits.shape == (2, 5) and not logits.any()


@pytest.mark.parametrize("attention", [(False, True), AtFactors((2,))])
def test_options_of_the_unet_hold_for_its_half(attention):
    """ADM's classifiers are told the time by scale and shift, and halve maps in residual blocks."""
    half = replace(
        HALF, attention=attention, scale_shift=True, resblock_updown=True, plain_attention=True, time_width=12, heads=2
    )
    network, x = built(NoisyClassifierConfig(classes=5, half=half)), torch.randn(2, 3, 8, 8)
    assert isinstance(network.downsamples[0], ResBlock) and network.middle1.attention is not None
    assert network.down[0][0].block.embed.weight.shape == (16, 48) and network.pool.attention.heads == 2
    assert not torch.allclose(network(x, TIME), network(x, TIME.flip(0)))
    network(x, TIME).square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None and p.grad.any(), name


def test_sees_sample_and_time_and_no_neighbour():
    network, x = built(), torch.randn(2, 3, 8, 8)
    logits = network(x, TIME)
    assert not torch.allclose(logits, network(x, TIME.flip(0)))
    for i in range(2):
        assert torch.allclose(network(x[i : i + 1], TIME[i : i + 1]), logits[i : i + 1], atol=1e-5)


def test_the_pool_is_softmax_attention_of_the_mean():
    torch.manual_seed(0)
    pool, x = AttentionPool(8, 1), torch.randn(2, 8, 3, 2)
    for i in range(2):
        positions = x[i].flatten(1).T
        mean = positions.mean(0)
        rows = torch.cat([mean[None], positions])
        a = pool.attention
        weights = ((mean @ a.query.weight.T) @ (rows @ a.key.weight.T).T / 8**0.5).softmax(0)
        expected = a.out(weights @ (rows @ a.value.weight.T))
        assert torch.allclose(pool(x)[i], expected, atol=1e-5)


def test_learns_what_can_be_learned():
    """Class = the channel that is brightest; a few steps of Adam."""
    torch.manual_seed(0)
    network = NoisyClassifierConfig(classes=3, half=HALF).build()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(25):
        y = torch.randint(3, (16,))
        x = 0.3 * torch.randn(16, 3, 4, 4) + F.one_hot(y, 3)[:, :, None, None]
        loss = F.cross_entropy(network(x, torch.rand(16) * 1000), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 < torch.tensor(3.0).log()


def test_what_does_not_fit_is_explained():
    with pytest.raises(ValueError, match="reads no conditions"):
        NoisyClassifierConfig(half=UNetConfig(context_width=8))
    with pytest.raises(ValueError, match="classes must lie in"):
        NoisyClassifierConfig(classes=0)
    with pytest.raises(ValueError, match="built for 3 channels and sides that are multiples of 2"):
        built()(torch.randn(2, 3, 7, 8), TIME)
    with pytest.raises(ValueError, match="built for 3 channels"):
        built()(torch.randn(2, 4, 8, 8), TIME)


def test_every_weight_is_used():
    """No stage is passed over: each weight changes the loss."""
    torch.manual_seed(0)
    network = built()
    for p in network.parameters():  # what starts at zero would hide what lies behind it
        torch.nn.init.normal_(p, std=0.3)
    network(torch.randn(2, 3, 8, 8), TIME).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())

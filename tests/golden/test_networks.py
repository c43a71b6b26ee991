"""The same weights give the same numbers, and the same gradients, as diffusers' networks.

Widths start at 128, for a narrower layer of ours takes fewer groups in its normalisation than diffusers' one number for
all layers can say.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from benchmarks.peers import their_adm, their_autoencoder, their_unet
from torch import Tensor, nn

from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.condition import Condition
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.nn.unet import UNetConfig

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

UNET: Rules = (
    (r"^time\.0", "time_embedding.linear_1"),
    (r"^time\.2", "time_embedding.linear_2"),
    (r"^vector\.0", "class_embedding.linear_1"),
    (r"^vector\.2", "class_embedding.linear_2"),
    (r"^(down|up)\.(\d+)\.(\d+)\.block", r"\1_blocks.\2.resnets.\3"),
    (r"^(down|up)\.(\d+)\.(\d+)\.transformer", r"\1_blocks.\2.attentions.\3"),
    (r"^(down|up)samples\.(\d+)", r"\1_blocks.\2.\1samplers.0"),
    (r"^middle1\.block", "mid_block.resnets.0"),
    (r"^middle2\.block", "mid_block.resnets.1"),
    (r"^middle1\.transformer", "mid_block.attentions.0"),
    (r"^norm", "conv_norm_out"),
    (r"\.embed\.", ".time_emb_proj."),
    (r"\.skip\.", ".conv_shortcut."),
    (r"\.blocks\.(\d+)\.", r".transformer_blocks.\1."),
    (r"\.self_attention\.", ".attn1."),
    (r"\.cross_attention\.", ".attn2."),
    (r"\.(query|key|value)\.", lambda m: f".to_{m[1][0]}."),
    (r"\.out\.", ".to_out.0."),
    (r"\.feed_forward\.up", ".ff.net.0.proj"),
    (r"\.feed_forward\.down", ".ff.net.2"),
)

ADM: Rules = (
    (r"\.(\d+)\.attention\.", r".\1.transformer."),
    (r"^middle1\.attention\.", "middle1.transformer."),
    (r"\.transformer\.norm", ".transformer.group_norm"),
    (r"\.transformer\.attention\.", ".transformer."),
    *UNET,
)

AUTOENCODER: Rules = (
    (r"^(\w+)\.norm", r"\1.conv_norm_out"),
    (r"^encoder\.levels", "encoder.down_blocks"),
    (r"^decoder\.levels", "decoder.up_blocks"),
    (r"\.blocks\.", ".resnets."),
    (r"^encoder\.downsamples\.(\d+)", r"encoder.down_blocks.\1.downsamplers.0"),
    (r"^decoder\.upsamples\.(\d+)", r"decoder.up_blocks.\1.upsamplers.0"),
    (r"middle\.block1", "mid_block.resnets.0"),
    (r"middle\.block2", "mid_block.resnets.1"),
    (r"middle\.attention", "mid_block.attentions.0"),
    (r"(attentions\.\d+)\.norm", r"\1.group_norm"),
    (r"(attentions\.\d+)\.(query|key|value)", lambda m: f"{m[1]}.to_{m[2][0]}"),
    (r"(attentions\.\d+)\.out", r"\1.to_out.0"),
    (r"\.skip\.", ".conv_shortcut."),
)


def renamed(key: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def give_weights(ours: nn.Module, theirs: nn.Module, rules: Rules) -> dict[str, str]:
    """Random weights for both, none of them zero; returns their name of each of our parameters."""
    g = torch.Generator().manual_seed(0)
    for name, p in ours.named_parameters():
        centre = 1.0 if p.dim() == 1 and name.endswith("weight") else 0.0
        scale = 0.1 if p.dim() == 1 else p[0].numel() ** -0.5
        p.data = centre + scale * torch.randn(p.shape, generator=g)
    names = {name: renamed(name, rules) for name, _ in ours.named_parameters()}
    target = theirs.state_dict()
    assert len(set(names.values())) == len(names), "two of our parameters share a name"
    assert set(names.values()) == set(target), "the names are no bijection"
    # diffusers keeps the 1x1 convolutions of the autoencoder's attention as matrices
    weights = {names[n]: p.detach().reshape(target[names[n]].shape).clone() for n, p in ours.named_parameters()}
    theirs.load_state_dict(weights)
    return names


def close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-4 * b.abs().max())


def compare(ours: nn.Module, theirs: nn.Module, names: dict[str, str], f: Callable[[], tuple[Tensor, Tensor]]) -> None:
    """Outputs and the gradients of every weight; `f` returns (ours, theirs)."""
    a, b = f()
    assert a.shape == b.shape and a.std() > 0.01
    assert close(a, b)
    probe = torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    (a * probe).sum().backward()
    (b * probe).sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    largest = max(g.abs().max() for g in gradients.values() if g is not None)
    for name, p in ours.named_parameters():
        g = gradients[names[name]]
        if p.grad is None or g is None:
            assert p.grad is None and g is None, name
            continue
        # a key's bias moves all scores alike: its gradient is rounding alone, so the scale is the network's
        assert (p.grad - g.view_as(p.grad)).abs().max() < 1e-4 * max(g.abs().max(), 1e-3 * largest), name


UNETS = {
    "tokens": UNetConfig(
        channels=128, multipliers=(1, 2), blocks=2, attention=(True, False), head_width=32, context_width=24
    ),
    "tokens, vector, spatial": UNetConfig(
        in_channels=7,
        out_channels=3,
        channels=128,
        multipliers=(1, 1, 2),
        blocks=1,
        attention=(False, True, True),
        head_width=64,
        depth=2,
        context_width=16,
        vector_width=10,
    ),
    "no condition": UNetConfig(channels=128, multipliers=(1, 2), blocks=1, attention=(False, True), head_width=128),
    "scale and shift, depth and heads by level": UNetConfig(
        channels=128,
        multipliers=(1, 2),
        blocks=1,
        attention=(True, True),
        depth=(1, 2),
        heads=(2, 8),
        context_width=24,
        vector_width=512,
        vector_mlp=False,
        scale_shift=True,
        linear_projections=True,
    ),
}


@pytest.mark.parametrize("name", UNETS)
def test_unet(name: str) -> None:
    config = UNETS[name]
    ours, theirs = config.build(), their_unet(config)
    names = give_weights(ours, theirs, UNET)
    g = torch.Generator().manual_seed(2)
    x = torch.randn(2, 4, 8, 12, generator=g)
    time = torch.tensor([17.0, 801.5])
    tokens = None if config.context_width is None else torch.randn(2, 5, config.context_width, generator=g)
    mask = None if tokens is None else torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    vector = None if config.vector_width is None else torch.randn(2, config.vector_width, generator=g)
    spatial = torch.randn(2, config.in_channels - 4, 8, 12, generator=g) if config.in_channels > 4 else None

    def both() -> tuple[Tensor, Tensor]:
        stacked = x if spatial is None else torch.cat([x, spatial], 1)
        return ours(x, time, Condition(tokens, mask, spatial, vector)), theirs(
            stacked, time, tokens, class_labels=vector, encoder_attention_mask=mask
        ).sample

    compare(ours, theirs, names, both)


@pytest.mark.parametrize("scale_shift", [True, False])
def test_adm(scale_shift: bool) -> None:
    """Attention alone, maps resampled in residual blocks, and classes that are added to the time."""
    config = UNetConfig(
        3,
        6,
        channels=128,
        multipliers=(1, 2, 2),
        blocks=1,
        attention=(False, True, False),
        head_width=64,
        vector_width=512,
        vector_mlp=False,
        plain_attention=True,
        scale_shift=scale_shift,
        resblock_updown=True,
    )
    ours, theirs = config.build(), their_adm(config, classes=5)
    table = nn.Embedding(5, 512)
    pair = nn.ModuleDict({"network": ours, "table": table})
    names = give_weights(pair, theirs, ((r"^network\.", ""), (r"^table\.", "class_embedding."), *ADM))
    g = torch.Generator().manual_seed(2)
    x, time, labels = torch.randn(2, 3, 8, 12, generator=g), torch.tensor([17.0, 801.5]), torch.tensor([4, 1])

    def both() -> tuple[Tensor, Tensor]:
        return ours(x, time, Condition(vector=table(labels))), theirs(x, time, class_labels=labels).sample

    compare(pair, theirs, names, both)


AUTOENCODERS = {
    "f4": EncoderDecoderConfig(channels=128, multipliers=(1, 1, 2), blocks=1, z_channels=3),
    "attention at the lowest level": EncoderDecoderConfig(
        channels=128, multipliers=(1, 2), blocks=2, z_channels=4, attention_levels=(1,)
    ),
    "no attention": EncoderDecoderConfig(channels=128, multipliers=(1, 2), blocks=1, mid_attention=False),
}


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoder(name: str) -> None:
    network = AUTOENCODERS[name]
    ours = LatentAutoencoderConfig(network.z_channels, network).build()
    theirs = their_autoencoder(network)
    names = give_weights(ours, theirs, AUTOENCODER)
    x = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))

    def both() -> tuple[Tensor, Tensor]:
        posterior = theirs.encode(x).latent_dist
        mean, std = ours.raw_moments(x)
        assert close(mean, posterior.mean) and close(std, posterior.std)
        return ours.reconstruct(x)[0], theirs.decode(posterior.mode()).sample

    compare(ours, theirs, names, both)

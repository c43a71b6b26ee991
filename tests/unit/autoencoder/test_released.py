"""The published autoencoders have exactly the published numbers of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calotype.autoencoder.released import RELEASED

# (encoder, decoder, everything)
KL = {
    "kl-f4": (22_351_238, 32_960_771, 55_312_063),
    "kl-f8": (34_163_592, 49_490_179, 83_653_863),
    "kl-f16": (28_265_760, 41_343_875, 69_610_963),
    "kl-f32": (42_614_656, 61_244_803, 103_880_131),
    "vq-f4": (22_337_411, 32_960_771, 55_322_782),
    "vq-f8": (27_397_764, 40_253_955, 67_717_295),
}
ALL = {name: counts[2] for name, counts in KL.items()} | {
    "vq-f4-noattn": 53_219_486,
    "vq-f8-n256": 67_652_783,
    "vq-f16": 69_593_371,
    "vqgan-f16": 72_141_699,
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", ALL)
def test_parameters(name: str) -> None:
    with torch.device("meta"):
        model = RELEASED[name].build()
    assert count(model) == ALL[name]
    if name in KL:
        assert (count(model.encoder), count(model.decoder)) == KL[name][:2]


@pytest.mark.parametrize("name", RELEASED)
def test_factor_and_latent(name: str) -> None:
    with torch.device("meta"):
        model = RELEASED[name].build()
        z, _ = model.raw_moments(torch.zeros(1, 3, 64, 96))
    factor = int(name.split("-")[1].removeprefix("f"))
    assert model.factor == factor and z.shape == (1, model.channels, 64 // factor, 96 // factor)
    assert model.channels == RELEASED[name].network.z_channels

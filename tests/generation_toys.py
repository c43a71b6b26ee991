"""Untrained models of every kind of wish, tiny: what they draw means nothing, how they are asked does."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.condition_toys import TOYS, Words

from calotype.autoencoder.base import Autoencoder, PixelSpace
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.conditioning.conditioner import Conditioners
from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.diffusion.denoiser import Denoiser
from calotype.diffusion.parameterization import Velocity
from calotype.diffusion.samplers import DDIM
from calotype.diffusion.schedule import Schedule
from calotype.generation.generate import Plan
from calotype.model import LatentDiffusion
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.nn.unet import UNetConfig

SIDE = 16
PLAN = Plan(DDIM(), steps=2)
TIMES = LowResolutionConfig(times=4)


def latent_autoencoder() -> Autoencoder:
    """Of factor 4."""
    network = EncoderDecoderConfig(channels=8, multipliers=(1, 1, 1), blocks=1, z_channels=2, mid_attention=False)
    return LatentAutoencoderConfig(channels=2, network=network).build()


def toy(*wishes: str, pixels: bool = False, times: LowResolutionConfig = TIMES) -> LatentDiffusion:
    """A model of 16 x 16 pictures that takes these wishes, by their names among `TOYS`; its unit is 2 pixels without an
    autoencoder (`pixels`), 8 with one."""
    torch.manual_seed(1)
    autoencoder = PixelSpace() if pixels else latent_autoencoder()
    configs = {name: times if name == "low_resolution" else TOYS[name]() for name in wishes}
    words = Words()
    words.shrinks = times.times
    conditioner = Conditioners.fit(configs, words, autoencoder)
    routes = conditioner.routes()
    network = UNetConfig(
        in_channels=autoencoder.channels + (routes.spatial or 0),
        out_channels=autoencoder.channels,
        channels=8,
        multipliers=(1, 2),
        blocks=1,
        attention=(False, True),
        head_width=8,
        context_width=routes.tokens,
        vector_width=routes.vector,
        zero_init=False,
    ).build()
    torch.nn.init.normal_(network.conv_out.weight, std=0.1)
    return LatentDiffusion(autoencoder, Denoiser(network, Schedule(), Velocity()), conditioner, side=SIDE).eval()


def saved(folder: Path, *wishes: str, pixels: bool = False, times: LowResolutionConfig = TIMES) -> Path:
    """A toy's run."""
    toy(*wishes, pixels=pixels, times=times).save(folder / "model")
    return folder

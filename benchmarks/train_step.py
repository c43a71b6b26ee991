"""Training steps and forward passes against diffusers' networks of the same layout.

Both sides get the same batch, loss, precision, memory layout and optimizer (AdamW, fused), in one process; only the
network's code differs. Narrow layers of ours normalise over fewer groups; no weight and no FLOP changes by that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from benchmarks.paired import Work
from benchmarks.peers import their_autoencoder, their_unet
from calotype.autoencoder.latent import LatentAutoencoder, LatentAutoencoderConfig
from calotype.condition import Condition
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.nn.unet import UNetConfig
from calotype.runtime import autocast

CPU = torch.device("cpu")

UNET = UNetConfig(channels=64, multipliers=(1, 3), blocks=2, attention=(False, True), head_width=32, context_width=128)
AUTOENCODER = EncoderDecoderConfig(channels=32, multipliers=(1, 2, 4), blocks=1, z_channels=4)


@dataclass(frozen=True)
class Case:
    """What is compared: a name, the precision, images per call, and the two ways."""

    name: str
    precision: str
    images: int
    ours: Work
    theirs: Work


def same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Both have as many weights, in as many tensors of the same sizes."""
    a, b = (sorted(p.numel() for p in m.parameters()) for m in (ours, theirs))
    if a != b:
        raise ValueError(f"the layouts differ: {sum(a)} and {sum(b)} weights")


def step(network: nn.Module, f: Callable[[], Tensor], target: Tensor, precision: str) -> Work:
    """Forward, squared error, backward, AdamW."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)

    def work() -> None:
        with autocast(precision, CPU):
            out = f()
        loss = (out.float() - target).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return work


def forward(f: Callable[[], Tensor], precision: str) -> Work:
    """The network alone, without gradients, as samplers call it."""

    @torch.no_grad()
    def work() -> None:
        with autocast(precision, CPU):
            f()

    return work


def cases(batch: int) -> Iterator[Case]:
    """All comparisons for this many latents (and a quarter as many pictures) per call."""
    torch.manual_seed(0)
    x, tokens, time = torch.randn(batch, 4, 16, 16), torch.randn(batch, 8, 128), torch.rand(batch) * 1000
    target = torch.randn_like(x)
    for precision in ("bf16", "fp32"):
        ours, theirs = UNET.build(), their_unet(UNET)
        same_weights(ours, theirs)

        def a(network: nn.Module = ours) -> Tensor:
            out: Tensor = network(x, time, Condition(tokens))
            return out

        def b(network: UNet2DConditionModel = theirs) -> Tensor:
            out: Tensor = network(x, time, tokens).sample
            return out

        yield Case(
            "UNet, training step",
            precision,
            batch,
            step(ours, a, target, precision),
            step(theirs, b, target, precision),
        )
        yield Case("UNet, forward", precision, batch, forward(a, precision), forward(b, precision))
    few = max(1, batch // 4)
    image = torch.rand(few, 3, 64, 64) * 2 - 1
    for precision in ("bf16", "fp32"):
        mine, other = LatentAutoencoderConfig(4, AUTOENCODER).build(), their_autoencoder(AUTOENCODER)
        same_weights(mine, other)

        def c(network: LatentAutoencoder = mine) -> Tensor:
            out: Tensor = network.reconstruct(image, torch.randn_like)[0]
            return out

        def d(network: AutoencoderKL = other) -> Tensor:
            out: Tensor = network.decode(network.encode(image).latent_dist.sample()).sample
            return out

        yield Case(
            "VAE, training step", precision, few, step(mine, c, image, precision), step(other, d, image, precision)
        )

"""What second-stage tasks train on: latents, drawn anew every time."""

from __future__ import annotations

import torch
from torch import Tensor

from calotype.autoencoder.base import Autoencoder
from calotype.rng import Draws
from calotype.types import Batch, Latent


@torch.no_grad()
def posterior_sample(autoencoder: Autoencoder, batch: Batch, draws: Draws) -> Latent:
    """A posterior sample of every image of the batch, normalised, float32 (B, C, h, w): from the cache's "latent_mean"
    and "latent_std", or from encoding "image" where there is no cache."""
    if "latent_mean" in batch:
        mean, std = batch["latent_mean"], batch["latent_std"]
    else:
        mean, std = autoencoder.moments(batch["image"])
    z: Tensor = mean + std * draws.normal("posterior", mean)
    return z

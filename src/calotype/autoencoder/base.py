"""Image <-> latent, as the diffusion model sees it.

An `Autoencoder` hides everything about compression: the diffusion code only ever meets latents of about zero mean and
unit variance. Pixel space is the identity member, so nothing else in the library asks whether there is compression.

    z = (bottleneck(encoder(x)) - mean) / std        mean, std: LatentStats, by one of the rules of `statistics`
    x = decoder(std z + mean)

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1 and appendix G.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from calotype.errors import UserError
from calotype.registry import Registry
from calotype.types import Image, Latent, Noise


class Autoencoder(nn.Module, ABC):
    """Image (B, 3, H, W) in [-1, 1] <-> latent (B, channels, H / factor, W / factor), normalised."""

    factor: int
    channels: int
    config: AutoencoderConfig

    @abstractmethod
    def moments(self, image: Image) -> tuple[Latent, Latent]:
        """Mean and standard deviation of the posterior q(z | image), both normalised; std is 0 if there is none."""

    @abstractmethod
    def decode(self, z: Latent) -> Image:
        """The picture of a normalised latent, in [-1, 1] up to overshoot."""

    def encode(self, image: Image, noise: Noise | None = None) -> Latent:
        """A normalised latent: a posterior sample, or its mode when `noise` is None."""
        mean, std = self.moments(image)
        return mean if noise is None else mean + std * noise(mean)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(channels, H / factor, W / factor); raises `ValueError` if a side is no multiple of the factor."""
        for name, side in (("height", height), ("width", width)):
            if side % self.factor:
                above = side - side % self.factor + self.factor
                near = sorted({max(self.factor, above - self.factor), above})
                raise ValueError(
                    f"{name} {side} is not a multiple of the autoencoder's factor {self.factor}; "
                    f"take {' or '.join(map(str, near))}"
                )
        return self.channels, height // self.factor, width // self.factor


@runtime_checkable
class AutoencoderConfig(Protocol):
    """What an autoencoder is built from; a registered frozen dataclass."""

    def build(self) -> Autoencoder:
        """A fresh autoencoder."""
        ...


autoencoders: Registry[AutoencoderConfig] = Registry("autoencoder", "calotype.autoencoder")


class PixelSpace(Autoencoder):
    """The identity: f = 1, the diffusion model works on pixels."""

    factor = 1

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels, self.config = channels, Pixels(channels)

    def moments(self, image: Image) -> tuple[Latent, Latent]:
        """The image itself, with no spread."""
        return image, torch.zeros_like(image)

    def decode(self, z: Latent) -> Image:
        """The latent itself."""
        return z


@autoencoders.register("pixels")
@dataclass(frozen=True)
class Pixels:
    """No compression, pictures are their own latents: config of `PixelSpace`."""

    channels: int = 3

    def build(self) -> PixelSpace:
        """The identity autoencoder."""
        return PixelSpace(self.channels)


class LatentStats(nn.Module):
    """Per-channel mean and standard deviation of raw latents; zero and one until set.

    Buffers: mean (C,), std (C,)."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def normalize(self, z: Latent) -> Latent:
        """(z - mean) / std."""
        return (z - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)

    def denormalize(self, z: Latent) -> Latent:
        """std z + mean."""
        return z * self.std.view(-1, 1, 1) + self.mean.view(-1, 1, 1)

    @torch.no_grad()
    def set(self, mean: Tensor, std: Tensor) -> None:
        """Take the statistics (C,) that a rule of `statistics` has measured, or those of another autoencoder.

        Raises:
            UserError: they are not finite, or a standard deviation is not positive.
        """
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise UserError(
                f"latents have no usable statistics (mean {mean.tolist()}, std {std.tolist()}): the weights are "
                "broken; train the autoencoder again, with a lower learning rate"
            )
        self.mean.copy_(mean)
        self.std.copy_(std)

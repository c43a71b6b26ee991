"""Which latents a denoiser has learned: the identity of an autoencoder, checked wherever both are put together.

An autoencoder that was trained a little longer, or whose statistics were measured anew, has other latents; a denoiser
would go on without a word and make blurred or discoloured pictures.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import nn

from calotype.autoencoder.base import Autoencoder
from calotype.errors import UserError


@dataclass(frozen=True)
class LatentSpace:
    """The latents of one autoencoder.

    Args:
        autoencoder: `weights_hash` of it, statistics included.
        channels: latent channels.
        factor: pixels per latent position and axis.
    """

    autoencoder: str
    channels: int
    factor: int

    @classmethod
    def of(cls, autoencoder: Autoencoder) -> LatentSpace:
        """Those of this autoencoder."""
        return cls(weights_hash(autoencoder), autoencoder.channels, autoencoder.factor)

    def check(self, autoencoder: Autoencoder, where: str) -> None:
        """Raise `UserError` unless these are the latents of `autoencoder`; `where` names the denoiser's model."""
        got, remedy = LatentSpace.of(autoencoder), "put back the one it was trained with, or train it again"
        for what, wanted, given in (("channels", self.channels, got.channels), ("factor", self.factor, got.factor)):
            if wanted != given:
                raise UserError(
                    f"the denoiser of {where} was trained with {what} {wanted}, but its autoencoder has {what} {given}"
                    f"; {remedy}"
                )
        if self.autoencoder != got.autoencoder:
            raise UserError(
                f"the denoiser of {where} was trained with autoencoder {self.autoencoder}, but the one there is "
                f"{got.autoencoder}: its weights or the statistics of its latents differ; {remedy}"
            )


def weights_hash(module: nn.Module) -> str:
    """A short SHA-256 of every tensor and its name: the identity of an autoencoder for caches and checks."""
    h = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        h.update(name.encode())
        flat = value.detach().cpu().contiguous().reshape(-1)  # a scalar has no bytes that could be viewed
        h.update(flat.view(torch.uint8).numpy().tobytes())
    return h.hexdigest()[:16]

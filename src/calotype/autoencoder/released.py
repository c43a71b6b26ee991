"""The autoencoders that were published with latent diffusion and VQGAN, as configs.

    RELEASED["kl-f8"].build()

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, tables 8 and 18; Esser et al. 2021,
https://arxiv.org/abs/2012.09841, table 7. Their attention is placed by the side of the feature map for a picture of 256
pixels, here by level. Two members, marked below, have rows in table 8 but no published config; theirs is the natural
continuation of their neighbours'. f = 1 is `PixelSpace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.bottleneck.vector_quantized import ByGradient, VectorQuantizedConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.nn.encoder_decoder import EncoderDecoderConfig


def _kl(z: int, multipliers: tuple[int, ...], attention: tuple[int, ...] = ()) -> LatentAutoencoderConfig:
    network = EncoderDecoderConfig(multipliers=multipliers, z_channels=z, attention_levels=attention)
    return LatentAutoencoderConfig(z, network, GaussianConfig(weight=1e-6))


def _vq(
    z: int, size: int, multipliers: tuple[int, ...], attention: tuple[int, ...] = (), *, middle: bool = True
) -> LatentAutoencoderConfig:
    network = EncoderDecoderConfig(
        multipliers=multipliers, z_channels=z, attention_levels=attention, mid_attention=middle
    )
    return LatentAutoencoderConfig(z, network, VectorQuantizedConfig(size=size, learning=ByGradient(legacy=True)))


RELEASED: Mapping[str, LatentAutoencoderConfig] = MappingProxyType(
    {
        "kl-f2": _kl(2, (1, 2)),  # no published config
        "kl-f4": _kl(3, (1, 2, 4)),
        "kl-f8": _kl(4, (1, 2, 4, 4)),
        "kl-f16": _kl(16, (1, 1, 2, 2, 4), (4,)),
        "kl-f32": _kl(64, (1, 1, 2, 2, 4, 4), (4, 5)),
        "vq-f4": _vq(3, 8192, (1, 2, 4)),
        "vq-f4-noattn": _vq(3, 8192, (1, 2, 4), middle=False),
        "vq-f8": _vq(4, 16384, (1, 2, 2, 4), (3,)),
        "vq-f8-n256": _vq(4, 256, (1, 2, 2, 4), (3,)),
        "vq-f16": _vq(8, 16384, (1, 1, 2, 2, 4), (4,)),
        "vq-f32": _vq(16, 16384, (1, 1, 2, 2, 4, 4), (4, 5)),  # no published config
        "vqgan-f16": _vq(256, 1024, (1, 1, 2, 2, 4), (4,)),
    }
)
"""By the name under which each was published. VQ members carry the mistaken weighting that they were trained with."""

"""The patch discriminator: is this neighbourhood real?

Isola et al. 2017 (pix2pix), https://arxiv.org/abs/1611.07004, appendix 6.1.2; as used by VQGAN and latent diffusion.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from calotype.nn.batch_norm import BatchNorm2d
from calotype.nn.sizes import check_sizes


class PatchDiscriminator(nn.Module):
    """Image (B, 3, H, W) -> logits (B, 1, h, w), one per patch; 70 pixels wide with three layers, 34 with two."""

    def __init__(self, config: PatchDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels * min(2**n, 8) for n in range(config.layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(config.image_channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for n, (incoming, width) in enumerate(pairwise(widths), 1):
            stride = 2 if n < config.layers else 1
            parts += [
                nn.Conv2d(incoming, width, 4, stride, 1, bias=False),  # the normalisation's shift is its bias
                BatchNorm2d(width),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.layers(x)
        return logits


def _initialize(module: nn.Module) -> None:
    match module:
        case nn.Conv2d():
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        case BatchNorm2d():
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class PatchDiscriminatorConfig:
    """Config of `PatchDiscriminator`.

    Args:
        channels: width of the first layer.
        layers: downsampling layers; the receptive field is 16, 34, 70, ... pixels for 1, 2, 3, ...
        image_channels: 3 for RGB.

    Raises:
        ValueError: a size out of bounds.
    """

    channels: int = 64
    layers: int = 3
    image_channels: int = 3

    def __post_init__(self) -> None:
        check_sizes(channels=(self.channels, 1024), layers=(self.layers, 8), image_channels=(self.image_channels, 64))

    @property
    def smallest(self) -> int:
        """Pixels of the shortest side that leave a logit: two convolutions without stride take a pixel each."""
        return 3 << self.layers

    def build(self) -> PatchDiscriminator:
        """A fresh discriminator."""
        return PatchDiscriminator(self)

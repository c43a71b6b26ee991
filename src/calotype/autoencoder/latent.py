"""The perceptual autoencoder of latent diffusion: convolutional encoder and decoder around a bottleneck.

    h = quant_conv(encoder(x))      z = bottleneck(h)      x_hat = decoder(post_quant_conv(project(z)))

Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix E.1; the layout is that of Stable Diffusion's VAE.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from calotype.autoencoder.base import Autoencoder, LatentStats, autoencoders
from calotype.autoencoder.bottleneck.base import BottleneckConfig, Code
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.nn.encoder_decoder import Decoder, Encoder, EncoderDecoderConfig
from calotype.nn.sizes import check_sizes
from calotype.types import Image, Latent, Noise


class LatentAutoencoder(Autoencoder):
    """Encoder, bottleneck, decoder and the statistics of the latents; see the module docstring.

    Args:
        config: widths, factor and bottleneck.
    """

    def __init__(self, config: LatentAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.factor = config.network.factor
        self.channels = config.channels
        self.bottleneck = config.bottleneck.build(config.channels)
        wide = self.bottleneck.incoming // config.channels * config.network.z_channels
        self.encoder = Encoder(config.network, wide)
        self.decoder = Decoder(config.network)
        self.quant_conv = nn.Conv2d(wide, self.bottleneck.incoming, 1)
        self.post_quant_conv = nn.Conv2d(config.channels, config.network.z_channels, 1)
        self.stats = LatentStats(config.channels)

    def features(self, image: Image) -> Tensor:
        """The encoder's output h (B, incoming, H / f, W / f), before the bottleneck."""
        self.latent_shape(*image.shape[-2:])
        h: Tensor = self.quant_conv(self.encoder(image))
        return h

    def reconstruct(self, image: Image, noise: Noise | None = None) -> tuple[Image, Code]:
        """x_hat and the code, as training sees them: raw latents, float32 picture."""
        code = self.bottleneck(self.features(image), noise)
        return self._develop(code.read), code

    def decode_raw(self, z: Latent) -> Image:
        """The picture of a latent that is not normalised."""
        return self._develop(self.bottleneck.project(z))

    def _develop(self, read: Latent) -> Image:
        image: Tensor = self.decoder(self.post_quant_conv(read))
        return image.float()

    def raw_moments(self, image: Image) -> tuple[Latent, Latent]:
        """Posterior mean and standard deviation before normalisation, float32."""
        mu, s = self.bottleneck.moments(self.features(image))
        return mu.float(), s.float()

    def moments(self, image: Image) -> tuple[Latent, Latent]:
        """Posterior mean and standard deviation, normalised by the statistics."""
        mu, s = self.raw_moments(image)
        return self.stats.normalize(mu), s / self.stats.std.view(-1, 1, 1)

    def decode(self, z: Latent) -> Image:
        """The picture of a normalised latent."""
        return self.decode_raw(self.stats.denormalize(z))

    @property
    def last_weight(self) -> Tensor:
        """The decoder's last layer, where the adaptive weight compares gradients."""
        return self.decoder.last_weight


@autoencoders.register("latent")
@dataclass(frozen=True)
class LatentAutoencoderConfig:
    """Encoder, bottleneck and decoder: config of `LatentAutoencoder`.

    Args:
        channels: latent channels (`embed_dim` in released configs).
        network: encoder and decoder; its depth sets the factor f.
        bottleneck: what limits the information.

    Raises:
        ValueError: more or fewer channels than 1 ... 1024.
    """

    channels: int = 4
    network: EncoderDecoderConfig = field(default_factory=EncoderDecoderConfig)
    bottleneck: BottleneckConfig = field(default_factory=GaussianConfig)

    def __post_init__(self) -> None:
        check_sizes(channels=(self.channels, 1024))

    def build(self) -> LatentAutoencoder:
        """A fresh autoencoder."""
        return LatentAutoencoder(self)

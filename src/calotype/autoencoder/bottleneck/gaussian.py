"""The KL bottleneck: a diagonal Gaussian per latent element, pulled slightly towards N(0, 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from calotype.autoencoder.bottleneck.base import Bottleneck, Code, bottlenecks
from calotype.types import Latent, Noise


class Gaussian(Bottleneck):
    """q(z | x) = N(mu, sigma^2), h = (mu, log sigma^2) stacked on channels, log sigma^2 clamped to [-30, 20].

    KL(q || N(0, 1)) = 1/2 sum_{c,h,w} (mu^2 + sigma^2 - 1 - log sigma^2), averaged over the batch.

    Kingma & Welling 2014, https://arxiv.org/abs/1312.6114, appendix B; weight as in Rombach et al. 2022, appendix G.
    The weight presumes the *sum* over the latent's elements: a mean would make 1e-6 mean something else.
    """

    def __init__(self, channels: int, weight: float) -> None:
        super().__init__()
        self.channels, self.incoming, self.weight, self.usage = channels, 2 * channels, weight, None

    def _split(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = h.float().chunk(2, dim=1)
        return mu, logvar.clamp(-30.0, 20.0)

    def forward(self, h: Tensor, noise: Noise | None = None) -> Code:
        """Sample (or mode), the weighted KL, and "kl" in nats per latent element."""
        mu, logvar = self._split(h)
        z = mu if noise is None else mu + (0.5 * logvar).exp() * noise(mu)
        kl = 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum((1, 2, 3)).mean()
        return Code(z, z, rate=self.weight * kl, metrics={"kl": kl.detach() / mu[0].numel()})

    def moments(self, h: Tensor) -> tuple[Latent, Latent]:
        """(mu, sigma)."""
        mu, logvar = self._split(h)
        return mu, (0.5 * logvar).exp()


@bottlenecks.register("gaussian")
@dataclass(frozen=True)
class GaussianConfig:
    """A Gaussian for every latent, kept near N(0, I) by a KL penalty: config of `Gaussian`.

    Args:
        weight: factor of the KL term, per image (sum over elements). 1e-6 in every released KL model.
    """

    weight: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight must be >= 0, got {self.weight}")

    def build(self, channels: int) -> Gaussian:
        """A Gaussian bottleneck."""
        return Gaussian(channels, self.weight)

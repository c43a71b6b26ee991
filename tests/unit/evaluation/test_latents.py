"""Bits, codes and widths of latents against sums written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from calotype.autoencoder.bottleneck.base import BottleneckConfig, bottlenecks
from calotype.autoencoder.bottleneck.finite_scalar import FiniteScalarConfig
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.bottleneck.vector_quantized import VectorQuantizedConfig
from calotype.autoencoder.latent import LatentAutoencoder, LatentAutoencoderConfig
from calotype.evaluation.latents import LatentCensus
from calotype.nn.encoder_decoder import EncoderDecoderConfig


def autoencoder(bottleneck: BottleneckConfig, channels: int = 2) -> LatentAutoencoder:
    torch.manual_seed(0)
    network = EncoderDecoderConfig(channels=8, multipliers=(1, 2), blocks=1, z_channels=channels)
    made = LatentAutoencoderConfig(channels=channels, network=network, bottleneck=bottleneck).build().eval()
    made.stats.mean.copy_(torch.linspace(-0.5, 0.5, channels))
    made.stats.std.copy_(torch.linspace(0.5, 2.0, channels))
    return made


def pictures(n: int = 7) -> Tensor:
    return torch.rand(n, 3, 12, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_gaussian_bits_are_the_divergence_and_widths_those_of_samples() -> None:
    model, x = autoencoder(GaussianConfig()), pictures()
    census = LatentCensus(model)
    z = torch.cat([census.encode(part) for part in x.split(3)])
    torch.testing.assert_close(z, model.encode(x).detach(), rtol=1e-4, atol=1e-5)
    scores = census.scores()
    with torch.no_grad():
        mu, s = (m.double() for m in model.raw_moments(x))
    nats = kl_divergence(Normal(mu, s), Normal(torch.zeros_like(mu), torch.ones_like(s))).sum()
    assert scores.bits_per_pixel == pytest.approx(float(nats) / math.log(2) / (7 * 12 * 16), rel=1e-5)
    draws = mu + s * torch.randn(2000, *mu.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    sampled = (
        ((draws - model.stats.mean.view(-1, 1, 1)) / model.stats.std.view(-1, 1, 1)).movedim(2, 0).flatten(1).std(1)
    )
    assert scores.std == pytest.approx(sampled.tolist(), rel=0.01)
    assert (scores.factor, scores.channels, scores.codebook) == (2, 2, None)


@pytest.mark.parametrize(
    ("bottleneck", "size"), [(VectorQuantizedConfig(size=16), 16), (FiniteScalarConfig((5, 4)), 20)], ids=["vq", "fsq"]
)
def test_codes_are_counted_over_the_whole_set(bottleneck: BottleneckConfig, size: int) -> None:
    model, x = autoencoder(bottleneck), pictures()
    census = LatentCensus(model)
    for part in x.split(3):
        census.encode(part)
    scores = census.scores()
    assert scores == census.scores()
    with torch.no_grad():
        read = model.bottleneck(model.features(x)).read.movedim(1, -1).flatten(0, 2)
    _, counts = torch.unique((read * 1e4).round(), dim=0, return_counts=True)
    p = counts.double() / counts.sum()
    assert scores.codebook is not None
    assert (scores.codebook.size, scores.codebook.vectors) == (size, 7 * 6 * 8)
    assert scores.codebook.used == len(counts) > 1
    assert scores.codebook.perplexity == pytest.approx(float(torch.exp(-(p * p.log()).sum())))
    assert scores.bits_per_pixel == pytest.approx(math.log2(size) / 4)
    with torch.no_grad():
        z = model.encode(x)
    assert scores.std == pytest.approx(z.movedim(1, 0).flatten(1).std(1, correction=0).tolist(), rel=1e-4)


def test_looking_leaves_the_autoencoder_as_it_was() -> None:
    model = autoencoder(VectorQuantizedConfig(size=16, revive=1.0))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    LatentCensus(model).encode(pictures())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", [*bottlenecks])
def test_every_discrete_bottleneck_is_counted(name: str) -> None:
    config = FiniteScalarConfig((5, 4)) if name == "finite_scalar" else bottlenecks.create(name)
    model = autoencoder(config)
    census = LatentCensus(model)
    census.encode(pictures())
    scores = census.scores()
    assert (scores.codebook is None) == (model.bottleneck.usage is None)
    assert scores.bits_per_pixel is not None and scores.bits_per_pixel > 0


def test_no_pictures_no_scores() -> None:
    with pytest.raises(ValueError, match="before there are any"):
        LatentCensus(autoencoder(GaussianConfig())).scores()

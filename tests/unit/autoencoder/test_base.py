"""Latent statistics, the Gaussian bottleneck and the identity autoencoder, against closed forms."""

import pytest
import torch

from calotype.autoencoder.base import LatentStats, PixelSpace
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig


def test_pixel_space_is_a_bit_exact_no_op() -> None:
    x = torch.rand(2, 3, 8, 6) * 2 - 1
    ae = PixelSpace()
    assert torch.equal(ae.encode(x), x) and torch.equal(ae.decode(x), x)
    assert torch.equal(ae.encode(x, torch.randn_like), x)
    assert ae.latent_shape(8, 6) == (3, 8, 6)


def test_statistics_equal_those_of_samples_and_do_not_depend_on_the_split() -> None:
    g = torch.Generator().manual_seed(0)
    mu = torch.randn(40, 3, 5, 4, generator=g, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1]).view(3, 1, 1) + 7
    s = torch.rand(40, 3, 5, 4, generator=g, dtype=torch.float64)
    one, many = LatentStats(3), LatentStats(3)
    one.measure([(mu, s)])
    many.measure([(mu[:7], s[:7]), (mu[7:8], s[7:8]), (mu[8:], s[8:])])
    assert torch.equal(one.mean, many.mean) and torch.allclose(one.std, many.std, rtol=1e-6)
    total = (mu.var((0, 2, 3), unbiased=False) + s.square().mean((0, 2, 3))).sqrt()  # law of total variance
    torch.testing.assert_close(one.std, total.float())
    z = mu + s * torch.randn(mu.shape, generator=g, dtype=torch.float64)
    n = one.normalize(z.float())
    assert n.mean((0, 2, 3)).abs().max() < 0.05
    assert (n.std((0, 2, 3)) - 1).abs().max() < 0.08
    torch.testing.assert_close(one.denormalize(n), z.float(), rtol=1e-4, atol=1e-4)


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        LatentStats(2).measure([])


def test_kl_equals_torch_distributions_and_straight_mode() -> None:
    from torch.distributions import Normal, kl_divergence

    torch.manual_seed(0)
    h = torch.randn(3, 8, 2, 2) * 2
    bottleneck = GaussianConfig(weight=0.5).build(4)
    mu, logvar = h.chunk(2, 1)
    exact = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum((1, 2, 3)).mean()
    torch.testing.assert_close(bottleneck(h).rate, 0.5 * exact)
    assert torch.equal(bottleneck(h).z, mu)
    torch.testing.assert_close(bottleneck(h, torch.ones_like).z, mu + (0.5 * logvar).exp())


def test_extreme_logvar_stays_finite() -> None:
    code = GaussianConfig().build(1)(torch.full((1, 2, 1, 1), 1e6))
    assert torch.isfinite(code.rate)


def test_bad_sizes_say_what_would_fit() -> None:
    ae = PixelSpace()
    ae.factor = 8
    with pytest.raises(ValueError, match="height 60 is not a multiple of the autoencoder's factor 8; take 56 or 64"):
        ae.latent_shape(60, 64)

"""Latent statistics, the Gaussian bottleneck and the identity autoencoder, against closed forms."""

import pytest
import torch

from calotype.autoencoder.base import LatentStats, PixelSpace
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.errors import UserError


def test_pixel_space_is_a_bit_exact_no_op() -> None:
    x = torch.rand(2, 3, 8, 6) * 2 - 1
    ae = PixelSpace()
    assert torch.equal(ae.encode(x), x) and torch.equal(ae.decode(x), x)
    assert torch.equal(ae.encode(x, torch.randn_like), x)
    assert ae.latent_shape(8, 6) == (3, 8, 6)


def test_statistics_normalise_and_back() -> None:
    stats = LatentStats(3)
    z = torch.randn(2, 3, 4, 4)
    assert torch.equal(stats.normalize(z), z) and torch.equal(stats.denormalize(z), z)
    stats.set(torch.tensor([1.0, 0.0, -5.0]), torch.tensor([2.0, 0.5, 10.0]))
    torch.testing.assert_close(stats.normalize(z)[:, 2], (z[:, 2] + 5) / 10)
    torch.testing.assert_close(stats.denormalize(stats.normalize(z)), z)


@pytest.mark.parametrize(("mean", "std"), [(float("nan"), 1.0), (0.0, float("inf")), (0.0, 0.0), (0.0, -1.0)])
def test_statistics_that_cannot_be_are_refused(mean: float, std: float) -> None:
    stats = LatentStats(1)
    with pytest.raises(UserError, match="no usable statistics"):
        stats.set(torch.tensor([mean]), torch.tensor([std]))
    assert (float(stats.mean), float(stats.std)) == (0.0, 1.0)


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

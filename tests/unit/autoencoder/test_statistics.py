"""The rules of latent statistics, against the law of total variance, torch's own std and drawn samples."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from calotype.autoencoder.base import LatentStats
from calotype.autoencoder.statistics import FirstBatch, Global, PerChannel, Posterior, Statistics, statistics
from calotype.errors import UserError
from calotype.registry import from_plain, to_plain
from calotype.rng import Draws

MEMBERS = [statistics[name]() for name in statistics]


def raw(n: int = 60) -> tuple[Tensor, Tensor]:
    """Posteriors of n pictures whose channels differ in everything."""
    g = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 5.0, 0.1], dtype=torch.float64).view(3, 1, 1)
    mu = (torch.randn(n, 3, 5, 4, generator=g, dtype=torch.float64) + 3) * scale
    return mu, torch.rand(n, 3, 5, 4, generator=g, dtype=torch.float64) * scale


def posteriors(mu: Tensor, s: Tensor, *sizes: int) -> Iterator[Posterior]:
    """The pictures in batches of these sizes, all in one by default; samples belong to pictures, not to batches."""
    indices = torch.arange(len(mu)).split(list(sizes) or [len(mu)])
    for some in indices:
        draws = Draws(7, 0, some.tolist())
        yield Posterior(mu[some], s[some], lambda like, draws=draws: draws.normal("statistics", like))


@pytest.mark.parametrize("rule", MEMBERS, ids=repr)
def test_any_split_gives_the_same(rule: Statistics) -> None:
    mu, s = raw()
    one, many = rule.measure(posteriors(mu, s), 3), rule.measure(posteriors(mu, s, 7, 1, 52), 3)
    for a, b in zip(one, many, strict=True):
        assert a.shape == (3,) and a.dtype == torch.float64
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", MEMBERS, ids=repr)
def test_nothing_is_refused_and_a_constant_is_not_divided_by_zero(rule: Statistics) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        rule.measure([], 2)
    zeros = torch.zeros(4, 2, 3, 3)
    mean, std = rule.measure(posteriors(zeros, zeros), 2)
    assert not mean.any() and (std > 0).all() and std.isfinite().all()
    LatentStats(2).set(mean, std)


@pytest.mark.parametrize("rule", MEMBERS, ids=repr)
def test_broken_latents_are_refused(rule: Statistics) -> None:
    broken = torch.full((4, 2, 3, 3), float("nan"))
    with pytest.raises(UserError, match="the weights are broken"):
        LatentStats(2).set(*rule.measure(posteriors(broken, broken), 2))


@pytest.mark.parametrize("rule", MEMBERS, ids=repr)
def test_sums_are_in_double(rule: Statistics) -> None:
    """100 + 0.1 eps in float32, 32,000 times: a float32 sum of squares would leave no digit of the variance."""
    z = (torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 0.1 + 100).float()
    _, std = rule.measure(posteriors(z, torch.zeros_like(z)), 1)
    assert float(std) == pytest.approx(float(z.double().std()), rel=1e-4)


def test_per_channel_is_the_law_of_total_variance() -> None:
    mu, s = raw()
    mean, std = PerChannel().measure(posteriors(mu, s), 3)
    torch.testing.assert_close(mean, mu.mean((0, 2, 3)))
    torch.testing.assert_close(std, (mu.var((0, 2, 3), unbiased=False) + s.square().mean((0, 2, 3))).sqrt())


def test_global_is_the_law_of_total_variance_without_channels() -> None:
    mu, s = raw()
    mean, std = Global().measure(posteriors(mu, s), 3)
    torch.testing.assert_close(mean, mu.mean().repeat(3))
    torch.testing.assert_close(std, (mu.var(unbiased=False) + s.square().mean()).sqrt().repeat(3))


@pytest.mark.parametrize("rule", [PerChannel(), Global()], ids=repr)
def test_samples_of_the_measured_set_have_unit_variance(rule: Statistics) -> None:
    """20 samples of each of 60 pictures; of every channel, or of all of them."""
    mu, s = raw()
    stats = LatentStats(3).double()
    stats.set(*rule.measure(posteriors(mu, s), 3))
    g = torch.Generator().manual_seed(5)
    noise = torch.randn(20, *mu.shape, generator=g, dtype=torch.float64)
    z = stats.normalize((mu + s * noise).flatten(0, 1))
    if rule == PerChannel():
        assert (z.std((0, 2, 3)) - 1).abs().max() < 0.02 and z.mean((0, 2, 3)).abs().max() < 0.02
    assert abs(float(z.std()) - 1) < 0.02 and abs(float(z.mean())) < 0.02


def test_first_batch_is_the_released_rule() -> None:
    """scale_factor = 1 / z.flatten().std(), z the samples that the first batch would have been trained on."""
    mu, s = raw(32)
    mean, std = FirstBatch().measure(posteriors(mu, s), 3)
    z = mu + s * Draws(7, 0, range(32)).normal("statistics", mu)
    assert not mean.any()  # the mean is not removed
    torch.testing.assert_close(std, z.flatten().std().repeat(3), rtol=1e-12, atol=0)
    biased, of_modes = z.flatten().std(unbiased=False), mu.flatten().std()
    assert abs(float(std[0] / biased) - 1) > 1e-4 and abs(float(std[0] / of_modes) - 1) > 1e-3  # neither of these


@pytest.mark.parametrize(("rule", "pictures"), [(PerChannel(), None), (Global(), None), (FirstBatch(4), 4)])
def test_rules_say_what_they_look_at_and_are_stored_by_name(rule: Statistics, pictures: int | None) -> None:
    assert rule.pictures == pictures
    plain = to_plain(rule)
    assert plain["type"].startswith("statistics.") and from_plain(plain) == rule


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="batch must lie in 1"):
        FirstBatch(0)

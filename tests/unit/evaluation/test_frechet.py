"""The Fréchet distance against Gaussians whose distance is known, and against the definition by brute force."""

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from calotype.evaluation.frechet import Moments, frechet_distance


def gaussian(mean: Tensor, covariance: Tensor, n: int = 101) -> Moments:
    """Moments that are exactly these."""
    return Moments(n, mean.double(), covariance.double() * (n - 1))


def random(n: int, d: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64) @ torch.randn(d, d, generator=g, dtype=torch.float64)


def test_moments_are_mean_and_unbiased_covariance() -> None:
    f = random(50, 4, 0) + 3
    m = Moments.of(f)
    torch.testing.assert_close(m.mean, f.mean(0))
    torch.testing.assert_close(m.covariance, torch.cov(f.T))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_shards_merge_in_any_order_and_grouping(sizes: list[int], seed: int) -> None:
    shards = [random(n, 3, seed + k) + 100 * k for k, n in enumerate(sizes)]
    whole = Moments.of(torch.cat(shards))
    parts = [Moments.of(s) for s in shards]
    for order in list(permutations(parts))[:6]:
        left = sum(order[1:], start=order[0])
        right = order[-1]
        for part in reversed(order[:-1]):
            right = part + right
        for m in (left, right):
            assert m.count == whole.count
            torch.testing.assert_close(m.mean, whole.mean, rtol=1e-12, atol=1e-10)
            torch.testing.assert_close(m.scatter, whole.scatter, rtol=1e-9, atol=1e-8)
    streamed = Moments.stream(iter(shards))
    torch.testing.assert_close(streamed.scatter, whole.scatter, rtol=1e-9, atol=1e-8)


def test_a_large_mean_costs_no_digits() -> None:
    f = random(200, 3, 1)
    far = Moments.stream((f + 1e6).float().double().split(7))
    torch.testing.assert_close(far.covariance, torch.cov((f + 1e6).float().double().T), rtol=1e-9, atol=1e-9)


def test_shifted_gaussians() -> None:
    s = torch.cov(random(50, 6, 2).T)
    shift = torch.tensor([3.0, 0, 4, 0, 0, 0])
    assert frechet_distance(gaussian(torch.zeros(6), s), gaussian(shift, s)) == pytest.approx(25.0, rel=1e-9)


def test_commuting_covariances() -> None:
    """For diagonal covariances d^2 = sum (s_1 - s_2)^2 over the standard deviations, in any rotated frame too."""
    a, b = torch.tensor([1.0, 4, 0, 9]).double(), torch.tensor([4.0, 1, 25, 9]).double()
    q, _ = torch.linalg.qr(random(4, 4, 3))
    d = frechet_distance(gaussian(torch.zeros(4), q * a @ q.T), gaussian(torch.zeros(4), q * b @ q.T))
    assert d == pytest.approx(1 + 1 + 25 + 0, rel=1e-9)


def test_two_dimensions_in_closed_form() -> None:
    """tr (S_1 S_2)^{1/2} = sqrt(tr S_1 S_2 + 2 sqrt(det S_1 S_2)) for 2 x 2 matrices; these do not commute."""
    a, b = torch.tensor([[2.0, 1.2], [1.2, 1.0]]).double(), torch.tensor([[1.0, -0.7], [-0.7, 3.0]]).double()
    p = a @ b
    expected = float(a.trace() + b.trace()) - 2 * math.sqrt(float(p.trace()) + 2 * math.sqrt(float(torch.det(p))))
    assert frechet_distance(gaussian(torch.zeros(2), a), gaussian(torch.zeros(2), b)) == pytest.approx(expected)


@pytest.mark.parametrize("n", [300, 20])
def test_equals_the_eigenvalues_of_the_product(n: int) -> None:
    """Brute force from the definition, S_1 S_2 unsymmetric; n = 20 < 32 makes both singular."""
    f, g = random(n, 32, 4), random(n, 32, 5) + 0.5
    s_1, s_2 = torch.cov(f.T), torch.cov(g.T)
    roots = torch.linalg.eigvals(s_1 @ s_2).real.clamp(min=0).sqrt().sum()
    expected = (f.mean(0) - g.mean(0)).square().sum() + s_1.trace() + s_2.trace() - 2 * roots
    assert frechet_distance(Moments.of(f), Moments.of(g)) == pytest.approx(float(expected), rel=1e-6)


def test_equals_torchmetrics() -> None:
    from torchmetrics.image.fid import _compute_fid

    f, g = random(200, 16, 6), random(150, 16, 7) + 0.3
    expected = _compute_fid(f.mean(0), torch.cov(f.T), g.mean(0), torch.cov(g.T))
    assert frechet_distance(Moments.of(f), Moments.of(g)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("n", [500, 5])
def test_symmetric_and_zero_to_itself(n: int) -> None:
    a, b = Moments.of(random(n, 24, 8)), Moments.of(random(n, 24, 9))
    scale = float(a.covariance.trace())
    assert frechet_distance(a, a) <= 1e-12 * scale
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_estimates_converge_to_the_truth() -> None:
    g = torch.Generator().manual_seed(10)
    f = torch.randn(40_000, 3, generator=g, dtype=torch.float64)
    h = 2 * torch.randn(40_000, 3, generator=g, dtype=torch.float64) + 1
    assert frechet_distance(Moments.of(f), Moments.of(h)) == pytest.approx(3 * 1 + 3 * 1, rel=0.03)


def test_one_feature_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        _ = Moments.of(torch.zeros(1, 3)).covariance

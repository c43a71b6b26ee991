"""Copies are found, new pictures are not accused."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.evaluation.memorisation import closeness_threshold, closer, find_copies, nearest, thumbnails


class Levels:
    """Features = the picture's own pixels: distances that can be checked by hand."""

    name = "pixels"
    sha256 = "-"

    def __call__(self, images: Tensor) -> Tensor:
        return images.flatten(1).double()


def noise(n: int, seed: int) -> Tensor:
    return torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_nearest_is_brute_force() -> None:
    q, r = torch.randn(23, 5, dtype=torch.float64), torch.randn(17, 5, dtype=torch.float64)
    distance, row = nearest(q, r, chunk=4)
    for i in range(23):
        d = [math.dist(q[i].tolist(), r[j].tolist()) for j in range(17)]
        assert float(distance[i]) == pytest.approx(min(d)) and int(row[i]) == d.index(min(d))


def test_nearest_keeps_the_digits_of_small_distances() -> None:
    r = torch.full((1, 112), 1e3, dtype=torch.float64)
    distance, _ = nearest(r + 1e-6, r)
    assert float(distance) == pytest.approx(1e-6 * math.sqrt(112), rel=1e-4)


def test_thumbnail_distance_is_the_rmse_in_levels() -> None:
    x, y = thumbnails(torch.full((1, 3, 64, 48), -1.0)), thumbnails(torch.full((1, 3, 64, 48), 1.0))
    assert float((x - y).norm()) == pytest.approx(255.0, rel=1e-6)
    a, b = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    levels = [((v + 1) * 127.5).round().double() for v in (a, b)]
    expected = float((levels[0] - levels[1]).square().mean().sqrt())
    assert float((thumbnails(a) - thumbnails(b)).norm()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("m", "rank", "expected"), [(130, 1, 1 / 131), (50, 1, 1 / 51), (199, 2, 2 / 200), (99, 1, 0.01)]
)
def test_threshold_is_an_order_statistic(m: int, rank: int, expected: float) -> None:
    heldout = torch.randperm(m).double() + 1
    assert closeness_threshold(heldout) == (float(rank), pytest.approx(expected))


def test_expected_fraction_is_exact_whatever_the_distribution() -> None:
    """Samples and held-out pictures from one heavy-tailed law: the share below the threshold is k / (m + 1)."""
    g = torch.Generator().manual_seed(0)
    shares, expected = [], 0.0
    for _ in range(400):
        d = torch.randn(40 + 400, generator=g).mul(2).exp()
        threshold, expected = closeness_threshold(d[:40], level=0.05)
        shares.append(float((d[40:] < threshold).double().mean()))
    assert expected == pytest.approx(2 / 41)
    assert sum(shares) / len(shares) == pytest.approx(expected, rel=0.15)


def test_closer_is_the_share_of_pairs() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randint(0, 9, (31,), generator=g), torch.randint(2, 9, (17,), generator=g)
    pairs = [(x < y) + (x == y) / 2 for x in a.tolist() for y in b.tolist()]
    assert closer(a, b) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert closer(b, b) == pytest.approx(0.5) and closer(b - 20, b) == 1.0 and closer(b + 20, b) == 0.0


def test_copies_and_mirrored_copies_are_found_and_located() -> None:
    training, heldout, new = noise(30, 1), noise(40, 2), noise(20, 3)
    g = torch.Generator().manual_seed(4)
    copies = torch.cat([training[3:7], training[10:12].flip(-1)])
    copies = copies + 0.02 * torch.randn(copies.shape, generator=g)
    found = find_copies(torch.cat([copies, new]), training, heldout, extractor=Levels())
    for space in (found.features, found.pixels):
        assert space.neighbour[:6] == (3, 4, 5, 6, 10, 11)
        assert max(space.distance[:6]) < space.threshold
        assert 6 / 26 <= space.fraction <= 8 / 26
        assert space.expected == pytest.approx(1 / 41) and len(space.heldout_distance) == 40
    assert max(found.pixels.distance[:6]) < 5 and min(found.pixels.distance[6:]) > 50
    assert found.expected == pytest.approx(2 / 41) and (found.training, found.heldout) == (30, 40)
    unmirrored = find_copies(copies, training, heldout, extractor=Levels(), mirrored=False).pixels
    assert max(unmirrored.distance[:4]) < 5 and min(unmirrored.distance[4:]) > 50


def test_a_picture_counts_if_it_is_close_in_either_space() -> None:
    class Blind(Levels):
        def __call__(self, images: Tensor) -> Tensor:
            return images.mean((1, 2, 3)).double()[:, None] * torch.tensor([[1.0, 0.0]]).double()

    training, heldout = noise(30, 1), noise(40, 2)
    flawed = training[:10] + 0.3  # far in means, near in structure
    assert find_copies(flawed, training, heldout, extractor=Blind()).features.fraction < 0.5
    found = find_copies(flawed, training, heldout, extractor=Blind())
    assert found.pixels.fraction == 1.0 and found.fraction == 1.0


def test_copies_behind_a_blurring_decoder_are_found_through_it() -> None:
    def decoder(x: Tensor) -> Tensor:
        return F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)

    training, heldout = noise(30, 1), noise(40, 2)
    samples = decoder(training[:10])
    found = find_copies(samples, training, heldout, through=decoder, extractor=Levels())
    assert found.features.fraction == found.pixels.fraction == found.fraction == found.pixels.closer == 1.0


def test_new_pictures_are_not_accused() -> None:
    shares = [find_copies(noise(60, 10 + k), noise(30, 1), noise(99, 50 + k), extractor=Levels()) for k in range(12)]
    assert sum(m.fraction for m in shares) / 12 <= shares[0].expected + 0.01
    assert sum(m.pixels.closer for m in shares) / 12 == pytest.approx(0.5, abs=0.05)


def test_refusals() -> None:
    x = noise(4, 0)
    for sets in ((x[:0], x, x), (x, x[:0], x), (x, x, x[:0])):
        with pytest.raises(ValueError, match="every kind"):
            find_copies(*sets, extractor=Levels())
    with pytest.raises(ValueError, match="level"):
        closeness_threshold(torch.ones(3), level=1.0)

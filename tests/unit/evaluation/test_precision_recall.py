"""Precision, recall, density and coverage: by brute force from the definitions, and where the answer is known."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from calotype.evaluation import precision_recall as module
from calotype.evaluation.precision_recall import PrecisionRecall, precision_recall, radii


def random(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(found: PrecisionRecall) -> tuple[float, float, float, float]:
    return found.precision, found.recall, found.density, found.coverage


def brute_force(real: list[list[float]], fake: list[list[float]], k: int) -> tuple[float, float, float, float]:
    """The definitions, point by point."""

    def radius(points: list[list[float]], i: int) -> float:
        return sorted(math.dist(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]

    r, g = [radius(real, i) for i in range(len(real))], [radius(fake, j) for j in range(len(fake))]
    hit = {(i, j): math.dist(real[i], fake[j]) <= r[i] for i, j in product(range(len(real)), range(len(fake)))}
    precision = sum(any(hit[i, j] for i in range(len(real))) for j in range(len(fake))) / len(fake)
    recall = sum(any(math.dist(x, y) <= s for y, s in zip(fake, g, strict=True)) for x in real) / len(real)
    coverage = sum(any(hit[i, j] for j in range(len(fake))) for i in range(len(real))) / len(real)
    return precision, recall, sum(hit.values()) / (k * len(fake)), coverage


POINT = st.tuples(st.integers(-3, 3), st.integers(-3, 3))
"""On a lattice copies and equal distances are frequent, and distances are roots of whole numbers, which round alike."""


@given(st.lists(POINT, min_size=4, max_size=12), st.lists(POINT, min_size=4, max_size=12), st.integers(1, 3))
def test_equals_the_definition(real: list[tuple[int, int]], fake: list[tuple[int, int]], k: int) -> None:
    x, y = [[float(v) for v in p] for p in real], [[float(v) for v in p] for p in fake]
    found = precision_recall(torch.tensor(x), torch.tensor(y), k)
    assert values(found) == pytest.approx(brute_force(x, y, k), abs=1e-12)
    assert (found.real, found.generated, found.k) == (len(x), len(y), k)


def test_a_line_by_hand() -> None:
    """Real 0, 1, 3 have radii 1, 1, 2 (k = 1), generated 2.5, 3.5, 9 have 1, 1, 5.5.

    2.5 and 3.5 lie in the ball of 3 alone, 9 in none: precision 2/3, density 2/3. Of the real ones 3 alone lies in a
    generated ball ([1.5, 3.5], [2.5, 4.5] and [3.5, 14.5]): recall 1/3; and only its own ball is hit: coverage 1/3."""
    found = precision_recall(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[2.5], [3.5], [9.0]]), k=1)
    assert values(found) == pytest.approx((2 / 3, 1 / 3, 2 / 3, 1 / 3))


def test_radii_are_those_of_other_points() -> None:
    assert radii(torch.tensor([[0.0], [0.0], [5.0], [7.0]]), 1).tolist() == [0, 0, 2, 2]
    assert radii(torch.tensor([[0.0], [0.0], [5.0], [7.0]]), 2).tolist() == [5, 5, 5, 7]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_set_against_itself_is_perfect(k: int) -> None:
    x = random(50, 8, 0) * 1e3 + 1e6  # far from the origin, where a matrix product would lose a copy
    found = precision_recall(x, x, k)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density == pytest.approx((k + 1) / k)  # its own ball, and k others in the mean


def test_far_away_is_worthless() -> None:
    assert values(precision_recall(random(20, 4, 1), random(30, 4, 2) + 100)) == (0, 0, 0, 0)


def test_one_mode_of_two_is_precise_but_recalls_half() -> None:
    near, far = random(40, 4, 3), random(40, 4, 4) + 100
    found = precision_recall(torch.cat([near, far]), near)
    assert found.precision == 1 and found.recall == pytest.approx(0.5) and found.coverage == pytest.approx(0.5)
    found = precision_recall(near, torch.cat([near, far]))
    assert found.precision == pytest.approx(0.5) and found.recall == 1


def test_an_outlier_flatters_precision_but_hardly_density() -> None:
    """Why Naeem et al. propose it: one far real point has a ball that holds everything between."""
    real, fake = torch.cat([random(99, 4, 5), torch.full((1, 4), 40.0)]), random(100, 4, 6) + 20
    found = precision_recall(real, fake, 5)
    assert found.precision > 0.9 and found.density < 0.25 and found.coverage < 0.05


@given(st.integers(0, 99), st.integers(5, 20), st.integers(5, 20))
def test_exchanged_sets_exchange_precision_and_recall(seed: int, n: int, m: int) -> None:
    a, b = random(n, 3, seed), random(m, 3, seed + 100)
    one, other = precision_recall(a, b), precision_recall(b, a)
    assert (one.precision, one.recall) == (other.recall, other.precision)


def test_order_rotation_shift_and_scale_do_not_matter() -> None:
    a, b = random(60, 5, 7), random(50, 5, 8) + 0.3
    q, _ = torch.linalg.qr(random(5, 5, 9))
    moved = [2 * (x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))] @ q) + 3 for x in (a, b)]
    assert values(precision_recall(*moved)) == pytest.approx(values(precision_recall(a, b)))
    assert 0 < precision_recall(a, b).precision < 1


def test_one_distribution_has_density_1_and_the_coverage_of_lemma_2() -> None:
    """Naeem et al. 2020, eq. (7), over 40 pairs of sets; the tolerance is four standard errors."""
    n, k = 100, 5
    found = [precision_recall(random(n, 8, 2 * s), random(n, 8, 2 * s + 1), k) for s in range(40)]
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    for each, target in (([f.coverage for f in found], expected), ([f.density for f in found], 1.0)):
        value = torch.tensor(each, dtype=torch.float64)
        assert abs(float(value.mean()) - target) < 4 * float(value.std()) / math.sqrt(len(each)), (value.mean(), target)


def test_in_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = random(40, 6, 10), random(31, 6, 11)
    whole = precision_recall(a, b)
    monkeypatch.setattr(module, "AT_ONCE", 100)
    assert precision_recall(a, b) == whole


def test_mistakes_are_refused() -> None:
    x = random(5, 3, 0)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        precision_recall(x, x, 0)
    with pytest.raises(ValueError, match="needs at least 4 features on each side, got 5 and 3"):
        precision_recall(x, x[:3], 3)
    with pytest.raises(ValueError, match=r"must be \(N, D\) and \(M, D\), got \(5, 3\) and \(5, 2\)"):
        precision_recall(x, x[:, :2])

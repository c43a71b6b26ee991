from collections import Counter

import numpy as np
import pytest

from calotype.data.masks import Boxes
from calotype.errors import UserError


def holes(mask: Boxes, height: int, width: int, n: int) -> list[np.ndarray]:
    return [mask(height, width, np.random.default_rng(seed)) for seed in range(n)]


def test_one_box_has_sides_and_places_of_the_rule() -> None:
    """Uniform sides from 30 to 150, drawn apart; uniform places within the margin."""
    sides, lefts, tops = [], [], []
    for hole in holes(Boxes((1, 1)), 256, 300, 600):
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        assert hole.sum() == len(rows) * len(columns), "a rectangle"
        assert rows[0] >= 10 and rows[-1] < 246 and columns[0] >= 10 and columns[-1] < 290
        sides.append((len(rows), len(columns)))
        tops.append((rows[0] - 10) / (236 - len(rows)))
        lefts.append((columns[0] - 10) / (280 - len(columns)))
    assert np.min(sides) == 30 and np.max(sides) == 150
    assert np.abs(np.mean(sides, 0) - 90).max() < 5 and abs(np.corrcoef(np.transpose(sides))[0, 1]) < 0.12
    for place in (tops, lefts):
        assert abs(np.mean(place) - 0.5) < 0.05 and min(place) == 0 and max(place) == 1


def test_share_of_the_hole() -> None:
    """One box: the square of the mean side. One to four: known where none of them lies, a number per pixel."""
    one = np.mean([hole.mean() for hole in holes(Boxes((1, 1)), 256, 256, 600)])
    assert abs(one - 90**2 / 256**2) < 0.008
    covered = np.mean(holes(Boxes((1, 1)), 256, 256, 1500), axis=0)
    expected = np.mean([1 - (1 - covered) ** k for k in (1, 2, 3, 4)])
    assert abs(np.mean([hole.mean() for hole in holes(Boxes(), 256, 256, 600)]) - expected) < 0.015


def test_number_of_boxes() -> None:
    """Single pixels hardly ever meet in a large picture."""
    counts = Counter(int(hole.sum()) for hole in holes(Boxes((1, 4), (1, 1), 0), 400, 400, 800))
    assert set(counts) == {1, 2, 3, 4} and all(abs(count / 800 - 0.25) < 0.06 for count in counts.values())


def test_the_longest_side_of_a_small_picture() -> None:
    drawn = holes(Boxes((1, 1)), 64, 90, 300)
    assert max(hole.any(1).sum() for hole in drawn) == 44 == max(hole.any(0).sum() for hole in drawn)
    assert Boxes()(50, 50, np.random.default_rng(0)).sum() == 900
    with pytest.raises(UserError, match=r"30 pixels with a margin of 10 do not fit into 49 x 80; .* mask\.scaled"):
        Boxes()(49, 80, np.random.default_rng(0))


@pytest.mark.parametrize(("field", "value"), [("boxes", (0, 1)), ("sides", (5, 4)), ("margin", -1)])
def test_wrong_numbers_are_refused(field: str, value: object) -> None:
    with pytest.raises(UserError, match=field):
        Boxes(**{field: value})

from collections import Counter

import numpy as np
import pytest

from calotype.data.masks import Border, Centre, Half
from calotype.errors import UserError


def test_half_is_each_of_four_as_often() -> None:
    names = {}
    for name, part in (("upper", np.s_[:5]), ("lower", np.s_[5:]), ("left", np.s_[:, :4]), ("right", np.s_[:, 4:])):
        hole = np.zeros((10, 8), bool)
        hole[part] = True
        names[hole.tobytes()] = name
    counts = Counter(names[Half()(10, 8, np.random.default_rng(seed)).tobytes()] for seed in range(400))
    assert len(counts) == 4 and all(abs(count / 400 - 0.25) < 0.08 for count in counts.values())


def test_half_of_odd_sides() -> None:
    for seed in range(8):
        assert Half()(7, 7, np.random.default_rng(seed)).sum() == 21
    assert Half()(1, 1, np.random.default_rng(0)).all()


def test_centre() -> None:
    hole = Centre()(8, 12, np.random.default_rng(0))
    assert hole.sum() == 24 and hole[2:6, 3:9].all()
    assert Centre(1.0)(5, 4, np.random.default_rng(0)).all()
    assert np.argwhere(Centre(0.01)(9, 9, np.random.default_rng(0))).tolist() == [[4, 4]]


def test_border_is_strips_along_all_choices_of_sides() -> None:
    """What is known is a rectangle; how much lies beyond it on each side tells the strips."""
    sides, strips = Counter(), []
    for seed in range(600):
        hole = Border(0.1, 0.3)(200, 100, np.random.default_rng(seed))
        rows, columns = np.flatnonzero((~hole).any(1)), np.flatnonzero((~hole).any(0))
        assert (~hole).sum() == len(rows) * len(columns)
        beyond = (rows[0] / 200, (199 - rows[-1]) / 200, columns[0] / 100, (99 - columns[-1]) / 100)
        sides[tuple(share > 0 for share in beyond)] += 1
        strips += [share for share in beyond if share]
    assert len(sides) == 15 and max(sides.values()) < 70
    assert abs(min(strips) - 0.1) < 0.006 and abs(max(strips) - 0.3) < 0.006 and abs(np.mean(strips) - 0.2) < 0.01


def test_border_is_at_least_a_pixel() -> None:
    for seed in range(10):
        assert Border(0.0, 0.0)(9, 9, np.random.default_rng(seed)).any()


def test_wrong_shares_are_refused() -> None:
    for wrong in (0.0, 1.1):
        with pytest.raises(UserError, match="share"):
            Centre(wrong)
    for least, most in ((0.3, 0.2), (-0.1, 0.2), (0.1, 0.6)):
        with pytest.raises(UserError, match="least"):
            Border(least, most)

import numpy as np
import pytest

from calotype.data.masks import Border, Boxes, Centre, Irregular, Mixed, Scaled
from calotype.errors import UserError


@pytest.mark.parametrize("mask", [Irregular(), Boxes(), Mixed(), Border()])
def test_a_quarter_of_the_size_asks_every_fourth_pixel(mask) -> None:
    for seed in range(5):
        large = mask(256, 384, np.random.default_rng(seed))
        assert np.array_equal(Scaled(mask)(64, 96, np.random.default_rng(seed)), large[2::4, 2::4])


def test_twice_the_size_repeats_pixels() -> None:
    mask = Boxes((1, 2), (3, 9), 1)
    small = mask(32, 48, np.random.default_rng(0))
    twice = Scaled(mask, 32)(64, 96, np.random.default_rng(0))
    assert np.array_equal(twice, small.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("size", [(16, 16), (16, 33), (7, 5)])
def test_a_hole_between_the_pixels_asked_is_not_lost(size: tuple[int, int]) -> None:
    dot = Centre(0.004)
    assert dot(256, 256, np.random.default_rng(0)).sum() == 1
    hole = Scaled(dot)(*size, np.random.default_rng(0))
    assert hole.shape == size and 1 <= hole.sum() <= 4
    rows, columns = np.nonzero(hole)
    assert np.abs(rows - size[0] / 2).max() <= 1 and np.abs(columns - size[1] / 2).max() <= 1


def test_odd_ratios_keep_the_share() -> None:
    assert abs(Scaled(Centre(0.5))(51, 77, np.random.default_rng(0)).mean() - 0.25) < 0.02


def test_no_side_is_refused() -> None:
    with pytest.raises(UserError, match="side"):
        Scaled(side=0)

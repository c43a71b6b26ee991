from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from calotype.data.masks import THICK_256, THIN_256, Limited
from calotype.errors import UserError


@dataclass
class Listed:
    """Masks whose hole is the given share of ten pixels, one after the other."""

    shares: Iterator[float]

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        return np.arange(10)[None] < 10 * next(self.shares)


@pytest.mark.parametrize(
    ("shares", "taken", "left"),
    [([0.3, 0.1], 0.3, 1), ([0.9, 0.5, 0.1], 0.5, 1), ([0.9, 0.7, 0.8, 0.2], 0.7, 1), ([1.0, 0.9, 0.6], 0.6, 0)],
)
def test_the_first_that_is_small_enough_else_the_smallest(shares: list[float], taken: float, left: int) -> None:
    listed = iter(shares)
    assert Limited(Listed(listed), 0.5, 3)(1, 10, np.random.default_rng(0)).mean() == taken
    assert len([*listed]) == left


def test_lama_s_test_masks_keep_to_half_of_the_picture() -> None:
    for mask in (THIN_256, THICK_256):
        shares = [mask(256, 256, np.random.default_rng(seed)).mean() for seed in range(40)]
        assert np.mean(np.array(shares) <= 0.5) > 0.9 and 0.1 < np.mean(shares) < 0.4


@pytest.mark.parametrize(("field", "value"), [("most", 0.0), ("most", 1.1), ("tries", 0)])
def test_wrong_numbers_are_refused(field: str, value: float) -> None:
    with pytest.raises(UserError, match=field):
        Limited(**{field: value})

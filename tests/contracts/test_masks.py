"""What every registered mask generator must do. Masks are True in the hole."""

from __future__ import annotations

import numpy as np
import pytest

from calotype.data import masks as room
from calotype.data.masks import Boxes, Centre, Irregular, Limited, MaskGenerator, Mixed, Scaled, masks
from calotype.registry import from_plain, to_plain

LAMA = [getattr(room, f"{width}_{side}") for width in ("THIN", "MEDIUM", "THICK") for side in (256, 512)]
MEMBERS: list[MaskGenerator] = [
    *(masks[name]() for name in masks),
    *(Scaled(mask, 256) for mask in LAMA),
    Limited(Scaled(Mixed((Boxes(margin=0), Centre(), Irregular(angles=1)), (1, 0, 2)), 128), 0.3, 2),
]
each = pytest.mark.parametrize("mask", MEMBERS, ids=lambda m: type(m).__name__)


@each
def test_survives_a_config_file(mask: MaskGenerator) -> None:
    assert from_plain(to_plain(mask)) == mask


@each
@pytest.mark.parametrize("size", [(160, 160), (133, 250), (250, 120)])
def test_shape_type_and_a_hole(mask: MaskGenerator, size: tuple[int, int]) -> None:
    for seed in range(5):
        hole = mask(*size, np.random.default_rng(seed))
        assert hole.shape == size and hole.dtype == np.bool_ and hole.any()


@each
def test_the_same_state_gives_the_same_hole(mask: MaskGenerator) -> None:
    one, two = (mask(160, 200, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(one, two)
    others = {mask(160, 200, np.random.default_rng(seed)).tobytes() for seed in range(8)}
    assert len(others) == 1 if isinstance(mask, Centre) else len(others) > 2


@each
def test_most_of_the_time_something_is_known(mask: MaskGenerator) -> None:
    known = [not mask(200, 200, np.random.default_rng(seed)).all() for seed in range(12)]
    assert sum(known) >= 10

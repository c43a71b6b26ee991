"""Boxes and areas of one number have one colour."""

import numpy as np

from calotype.data.colours import colour, coloured


def test_what_is_unlabelled_is_white() -> None:
    areas = np.array([[0, 7], [254, 255]], dtype=np.uint8)
    assert coloured(areas).tolist() == [[list(colour(0)), list(colour(7))], [list(colour(254)), [255, 255, 255]]]


def test_neighbours_differ() -> None:
    assert len({colour(k) for k in range(64)}) == 64
    assert all(max(abs(a - b) for a, b in zip(colour(k), colour(k + 1), strict=True)) > 40 for k in range(64))

import numpy as np
import pytest

from calotype.data.masks import Boxes, Centre, Half, Irregular, Mixed
from calotype.errors import UserError


@pytest.mark.parametrize(("shares", "expected"), [((1, 1), 0.5), ((3, 1), 0.75), ((0, 2), 0.0)])
def test_shares_are_in_proportion(shares: tuple[float, float], expected: float) -> None:
    mixed = Mixed((Half(), Centre(0.25)), shares)
    halves = [mixed(8, 8, np.random.default_rng(seed)).sum() == 32 for seed in range(2000)]
    assert abs(np.mean(halves) - expected) < 0.04 and (expected > 0 or not any(halves))


def test_by_default_lama_s_strokes_and_boxes() -> None:
    assert Mixed() == Mixed((Irregular(), Boxes()), (1, 1))
    boxes = 0
    for seed in range(150):
        hole = Mixed()(200, 200, np.random.default_rng(seed))
        edges = hole ^ np.roll(hole, 1, 1)  # a union of boxes changes along a row at the sides of boxes alone
        boxes += edges.any(0).sum() <= 8
    assert abs(boxes / 150 - 0.5) < 0.13


@pytest.mark.parametrize("shares", [(1.0,), (-1.0, 2.0), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_wrong_shares_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="share"):
        Mixed((Half(), Centre()), shares)


def test_no_members_are_refused() -> None:
    with pytest.raises(UserError, match="one share per member"):
        Mixed((), ())

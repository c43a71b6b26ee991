import math
from collections import Counter

import numpy as np
import pytest

from calotype.data.masks import Irregular, irregular
from calotype.data.masks.irregular import paint
from calotype.errors import UserError

Segment = tuple[tuple[int, int], tuple[int, int], float]


def brute(shape: tuple[int, int], start: tuple[int, int], end: tuple[int, int], radius: float) -> np.ndarray:
    hole = np.zeros(shape, bool)
    a, d = np.array(start, float), np.subtract(end, start).astype(float)
    for y, x in np.ndindex(shape):
        p = np.array([x, y]) - a
        along = 0.0 if not d.any() else min(max(p @ d / (d @ d), 0.0), 1.0)
        hole[y, x] = math.hypot(*(p - along * d)) <= radius
    return hole


@pytest.mark.parametrize(
    ("start", "end", "radius"),
    [
        ((3, 4), (20, 11), 3.5),
        ((20, 11), (3, 4), 3.5),
        ((10, 2), (10, 30), 2.5),
        ((0, 15), (28, 15), 3.0),
        ((7, 7), (7, 7), 4.2),
        ((0, 0), (28, 31), 52.0),
        ((28, 31), (28, 31), 2.5),
    ],
)
def test_paint_is_the_distance_from_the_segment(start: tuple[int, int], end: tuple[int, int], radius: float) -> None:
    hole = np.zeros((31, 28), bool)
    paint(hole, start, end, radius)
    assert np.array_equal(hole, brute(hole.shape, start, end, radius))


def test_paint_adds_to_what_is_there() -> None:
    hole = np.zeros((40, 40), bool)
    paint(hole, (5, 5), (5, 5), 2)
    paint(hole, (30, 30), (35, 30), 2)
    assert hole[5, 5] and hole[30, 33] and not hole[20, 20]


@pytest.mark.parametrize(("width", "rows"), [(5, 5), (6, 7), (7, 7), (8, 9)])
def test_an_upright_stroke_is_as_wide_as_the_brush(width: int, rows: int) -> None:
    """Of an even width a pixel more: it lies on a row of pixels, not between two."""
    hole = np.zeros((40, 60), bool)
    paint(hole, (20, 20), (40, 20), width / 2)
    assert hole[:, 30].sum() == rows


def strokes(mask: Irregular, seed: int, monkeypatch: pytest.MonkeyPatch) -> list[list[Segment]]:
    """The segments by stroke: one that does not begin where the last one ended begins a stroke."""
    told: list[list[Segment]] = []

    def record(hole: np.ndarray, start: tuple[int, int], end: tuple[int, int], radius: float) -> None:
        if not told or told[-1][-1][1] != start:
            told.append([])
        told[-1].append((start, end, radius))

    monkeypatch.setattr(irregular, "paint", record)
    mask(300, 400, np.random.default_rng(seed))
    return told


def test_strokes_segments_lengths_widths_and_angles_are_drawn_by_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [strokes(Irregular(), seed, monkeypatch) for seed in range(600)]
    for counts in (Counter(map(len, drawn)), Counter(len(stroke) for picture in drawn for stroke in picture)):
        n, p = sum(counts.values()), 1 / len(counts)
        assert all(abs(count / n - p) < 4 * (p / n) ** 0.5 for count in counts.values())
    assert {*map(len, drawn)} == set(range(1, 7))
    assert {len(stroke) for picture in drawn for stroke in picture} == set(range(1, 6))
    widths = [2 * radius for picture in drawn for stroke in picture for *_, radius in stroke]
    assert {*widths} == set(range(5, 105)) and abs(np.mean(widths) - 54.5) < 1.5
    starts = np.array([stroke[0][0] for picture in drawn for stroke in picture])
    assert np.abs(starts.mean(0) - (199.5, 149.5)).max() < 10 and (starts.max(0) == (399, 299)).all()

    lengths, turns = [], Counter()
    for picture in drawn:
        for number, stroke in enumerate(picture):
            for (x, y), (to_x, to_y), _ in stroke:
                assert 0 <= to_x <= 400 and 0 <= to_y <= 300
                if 0 < to_x < 400 and 0 < to_y < 300:
                    lengths.append(math.hypot(to_x - x, to_y - y))
                    if lengths[-1] > 60:
                        turns[number % 2, round(math.atan2(to_x - x, to_y - y), 1)] += 1
    assert 8.5 < min(lengths) < 12 and 195 < max(lengths) < 210.5  # ends are whole pixels
    odd = {a for parity, a in turns if parity}
    even = {a for parity, a in turns if not parity}
    assert all(min(abs(a - k - 0.01) for k in range(4)) < 0.12 for a in odd)
    assert all(min(abs(a + k + 0.01) for k in range(4)) < 0.12 for a in even)


def test_a_single_dot() -> None:
    hole = Irregular((1, 1), (1, 1), (0, 0), (5, 5))(50, 50, np.random.default_rng(3))
    assert 6 <= hole.sum() <= 21  # a disc of radius 2.5, or what a corner leaves of it


@pytest.mark.parametrize(
    ("field", "value"),
    [("strokes", (0, 2)), ("segments", (3, 2)), ("widths", (0, 3)), ("lengths", (-1, 3)), ("angles", 0)],
)
def test_wrong_numbers_are_refused(field: str, value: object) -> None:
    with pytest.raises(UserError, match=field):
        Irregular(**{field: value})

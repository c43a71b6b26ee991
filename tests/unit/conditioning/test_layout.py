"""Layouts as tokens: the paper's numbers, there and back, what is refused."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.condition_toys import Silent, Squares, Words

from calotype.conditioning.conditioner import Conditioners
from calotype.conditioning.layout import LayoutConfig, LayoutTokens
from calotype.errors import UserError
from calotype.layout import Box, Layout, Window

TOKENS = LayoutTokens(["cat", "dog", "hat"])


def test_the_numbers_are_those_of_the_paper() -> None:
    """92 ids of 8,192; a grid of 90, whose last place is 8,099; "none" is 8,191."""
    assert (TOKENS.length, TOKENS.places, TOKENS.none) == (92, 90, 8191)
    assert TOKENS.place(0, 0) == 0 and TOKENS.place(1, 1) == 8099 and TOKENS.place(1, 0) == 89
    ids = TOKENS.encode(Layout((Box(1, 0.0, 0.0, 1.0, 1.0),)))
    assert ids == [1, 0, 8099, *[8191] * 87, 0, 8099]


def test_the_order_is_class_top_left_bottom_right_and_the_crop_comes_last() -> None:
    ids = TOKENS.encode(Layout((Box(2, 0.5, 0.0, 1.0, 0.25),), Window(0.0, 0.5, 1.0, 1.0)))
    assert ids[:3] == [2, 44, round(0.25 * 89) * 90 + 89]  # banker's rounding: 0.5 * 89 = 44.5 -> 44
    assert ids[-2:] == [44 * 90, 8099]


corner = st.floats(0, 1, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), corner, corner, corner, corner), max_size=30))
def test_there_and_back_to_half_a_cell(rows: list[tuple[int, float, float, float, float]]) -> None:
    boxes = tuple(
        Box(c, min(a, b), min(d, e), max(a, b), max(d, e)) for c, a, b, d, e in rows if abs(a - b) > 1e-3 < abs(d - e)
    )
    decoded = TOKENS.decode(TOKENS.encode(Layout(boxes)))
    assert len(decoded) == len(boxes)
    for box, (label, low, high) in zip(boxes, decoded, strict=True):
        assert label == box.label
        for got, wanted in zip((*low, *high), (box.x0, box.y0, box.x1, box.y1), strict=True):
            assert abs(got - wanted) <= 0.5 / 89 + 1e-9


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="a box has the class 7"):
        TOKENS.encode(Layout((Box(7, 0.0, 0.0, 0.5, 0.5),)))
    with pytest.raises(ValueError, match="no room for 20 classes"):
        LayoutTokens([str(k) for k in range(20)], vocabulary=20)


def test_of_too_many_objects_the_largest_are_kept_in_their_order_and_a_person_is_told() -> None:
    tokens = LayoutTokens(["cat", "dog", "hat"], objects=2)
    large, small, middle = Box(0, 0.0, 0.0, 1.0, 1.0), Box(1, 0.0, 0.0, 0.1, 0.1), Box(2, 0.0, 0.0, 0.5, 0.5)
    decoded = tokens.decode(tokens.encode(Layout((middle, small, large))))
    assert [label for label, *_ in decoded] == [2, 0]
    assert len(tokens.decode(tokens.encode(Layout((middle,) * 5)))) == 2, "equal ones too"
    conditioner = LayoutConfig(width=16, depth=1, heads=2, objects=2).fit(Pictures(), Squares())
    with pytest.raises(UserError, match="3 boxes, this model takes 2 at most"):
        conditioner.check_asked({"layout": [Layout((small,) * 3)]})


def test_the_vocabularys_last_id_is_never_a_place() -> None:
    tokens = LayoutTokens(["a"], vocabulary=25)
    assert tokens.places == 4 and tokens.place(1, 1) < tokens.none


class Pictures(Words):
    objects = ("cat", "dog")


def test_a_layout_is_a_condition_and_none_is_null() -> None:
    torch.manual_seed(0)
    config = LayoutConfig(width=16, depth=1, heads=2, objects=4, vocabulary=120)
    conditioner = config.fit(Pictures(), Squares())
    box = Box(1, 0.0, 0.0, 0.5, 1.0)
    condition = conditioner({"layout": [Layout((box,)), Layout()]})
    assert condition.tokens.shape == (2, 14, 16) and conditioner.routes() == condition.routes
    assert torch.allclose(condition.tokens[1], conditioner.null(3).tokens[2], atol=1e-6)
    assert not torch.allclose(condition.tokens[0], condition.tokens[1])
    again = config.load(conditioner.assets(), Squares())
    again.load_state_dict(conditioner.state_dict())
    assert torch.equal(again({"layout": [Layout((box,))]}).tokens, conditioner({"layout": [Layout((box,))]}).tokens)


def test_data_without_boxes_are_told_so() -> None:
    assert LayoutConfig().lacks(Silent()) == "boxes" and LayoutConfig().lacks(Pictures()) == ""
    with pytest.raises(UserError, match=re.escape("the data has no boxes")):
        Conditioners.fit({"layout": LayoutConfig()}, Silent(), Squares())


@pytest.mark.parametrize("wrong", [{"objects": 0}, {"vocabulary": 16}, {"heads": 3}, {"drop": 2.0}])
def test_sizes_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        LayoutConfig(**wrong)  # type: ignore[arg-type]

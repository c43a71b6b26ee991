"""Measures of obedience on maps whose value is known: perfect, shuffled, empty."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from calotype.data.folder import open_source
from calotype.data.images import to_tensor
from calotype.data.scenes import KINDS
from calotype.layout import Box, Layout
from calotype.studies.finding import Ratio
from calotype.studies.obedience import (
    accuracy,
    agreement,
    box_overlap,
    boxes_won,
    correlation,
    drawn,
    exactness,
    held,
    largest,
    named,
    overlap,
    seen,
)

SIDE = 16
LAYOUTS = [
    Layout((Box(0, 0, 0, 0.5, 0.5), Box(1, 0.5, 0.5, 1, 1))),
    Layout((Box(2, 0.25, 0.25, 0.75, 0.75),)),
    Layout((Box(1, 0, 0, 0.25, 1), Box(1, 0.75, 0, 1, 1))),
]
EMPTY = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)


def painted(layouts: list[Layout]) -> Tensor:
    """Maps in which objects fill their boxes."""
    maps = torch.zeros(len(layouts), SIDE, SIDE, dtype=torch.uint8)
    for m, layout in zip(maps, layouts, strict=True):
        for b in layout.boxes:
            x0, y0, x1, y1 = (round(SIDE * v) for v in (b.x0, b.y0, b.x1, b.y1))
            m[y0:y1, x0:x1] = b.label + 1
    return maps


def value(ratio: Ratio) -> float:
    return ratio(torch.arange(len(ratio.part)))


FILLED = painted(LAYOUTS)
NEXT = [1, 2, 0]
OTHERS = [LAYOUTS[i] for i in NEXT]


# --- boxes --------------------------------------------------------------------------------------------------------


def test_boxes_that_are_filled() -> None:
    assert value(box_overlap(FILLED, LAYOUTS)) == 1
    assert value(boxes_won(FILLED, LAYOUTS, 3)) == 1


def test_boxes_that_are_empty() -> None:
    assert value(box_overlap(EMPTY, LAYOUTS)) == value(boxes_won(EMPTY, LAYOUTS, 3)) == 0


def test_boxes_of_others() -> None:
    """Map 0 has classes 0 and 1, and is asked for class 2; map 1 has 2, is asked for 1 twice; map 2 has class 1 in
    both outer quarters, is asked for 0, and for 1 in the lower right quarter: 32 of 128 + 32 pixels."""
    assert value(box_overlap(FILLED, OTHERS)) == pytest.approx((0 + 0 + 0 + 32 / (128 + 32)) / 4)
    assert value(boxes_won(FILLED, OTHERS, 3)) == 1 / 5


def test_a_box_is_won_by_the_class_that_covers_most_of_it() -> None:
    layout = Layout((Box(0, 0, 0, 1, 1),))
    m = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    m[0, :4], m[0, 4:7] = 1, 2
    assert value(boxes_won(m, [layout], 3)) == 1, "the background has most, but is no class"
    m[0, 4:9] = 2
    assert value(boxes_won(m, [layout], 3)) == 0
    assert value(box_overlap(m, [layout])) == 4 / 16


def test_overlap_is_that_of_all_boxes_of_a_class_together() -> None:
    one = EMPTY[:1].clone()
    one[0, :, :4] = 2
    assert value(box_overlap(one, LAYOUTS[2:])) == 0.5
    assert box_overlap(one, LAYOUTS[2:]).whole.tolist() == [[1]]


def test_a_picture_without_boxes_does_not_count() -> None:
    assert value(box_overlap(FILLED, [LAYOUTS[0], Layout(), LAYOUTS[2]])) == 1


# --- label maps ---------------------------------------------------------------------------------------------------


def test_maps_as_wished() -> None:
    assert value(accuracy(FILLED, FILLED)) == value(overlap(FILLED, FILLED, 4)) == 1


def test_empty_maps_have_the_background_right() -> None:
    assert value(accuracy(EMPTY, FILLED)) == pytest.approx(1 - float((FILLED > 0).float().mean()))
    covered = float((FILLED == 0).float().mean())
    assert value(overlap(EMPTY, FILLED, 4)) == pytest.approx((covered + 0 + 0 + 0) / 4)
    assert value(overlap(EMPTY, EMPTY, 4)) == 1, "areas that do not occur do not count"


def test_maps_of_others() -> None:
    wished = FILLED[NEXT]
    assert value(accuracy(FILLED, wished)) == pytest.approx(float((wished == FILLED).float().mean()))
    assert value(overlap(FILLED, wished, 4)) < 0.5


def test_unlabelled_pixels_do_not_count() -> None:
    wished = FILLED.clone()
    wished[:, :8] = 255
    wrong = torch.where(wished == 255, 3, FILLED).to(torch.uint8)
    assert value(accuracy(wrong, wished)) == value(overlap(wrong, wished, 4)) == 1


def test_what_is_right_in_a_hole() -> None:
    hole = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    hole[:, :8, :8] = True
    wrong = FILLED.clone()
    wrong[:, 8:] = 3
    assert value(accuracy(wrong, FILLED, where=hole)) == 1
    assert value(overlap(wrong, FILLED, 4, where=hole)) == 1 > value(overlap(wrong, FILLED, 4))
    assert value(accuracy(EMPTY, FILLED, where=~hole & (FILLED == 0))) == 1


# --- sets of classes ----------------------------------------------------------------------------------------------


def test_classes_that_are_seen() -> None:
    assert seen(FILLED, 3) == [held(layout) for layout in LAYOUTS] == [{0, 1}, {2}, {1}]
    assert seen(EMPTY, 3) == [set()] * 3
    few = torch.zeros(2, 64, 64, dtype=torch.uint8)
    few[0].view(-1)[:39], few[1].view(-1)[:40] = 1, 1
    assert seen(few, 3) == [set(), {0}]


def test_classes_that_are_named() -> None:
    classes = ("ant", "animal", "heart")
    assert named("an animal, a heart and a clock", classes) == {1, 2}
    assert named("Plants and animals", classes) == set() == named("", classes)


def test_captions_name_what_is_there() -> None:
    source = open_source("embedded:scenes/val")
    for i, caption in zip(range(40), source.captions(), strict=False):
        assert named(caption, source.objects) == {b.label for b in source[i].boxes}


def test_agreement_of_sets() -> None:
    wished = [{0, 1}, {2}, {1}]
    assert value(agreement(wished, wished)) == value(exactness(wished, wished)) == 1
    assert value(agreement([set()] * 3, wished)) == 0
    assert value(agreement([set()], [set()])) == value(exactness([set()], [set()])) == 1
    found = [{0, 1, 2}, {2}, {0}]
    assert value(agreement(found, wished)) == pytest.approx((2 * 2 / 5 + 1 + 0) / 3)
    assert value(exactness(found, wished)) == pytest.approx(1 / 3)


def test_the_largest_class() -> None:
    assert value(largest(FILLED, [0, 2, 1], 3)) == 1, "the first of equals"
    assert value(largest(FILLED, [2, 2, 0], 3)) == pytest.approx(1 / 3)
    assert value(largest(EMPTY, [0, 0, 0], 3)) == 0, "nothing is no class"


# --- drawings -----------------------------------------------------------------------------------------------------


def test_a_scene_with_the_true_map_has_the_drawing_that_it_came_with() -> None:
    """Unless two objects of a class touch, between which a map has no line."""
    source = open_source("embedded:scenes/val")
    rows = [i for i in range(12) if len({b.label for b in source[i].boxes}) == len(source[i].boxes)]
    records = [source[i] for i in rows]
    images = to_tensor(np.stack([np.asarray(r.image) for r in records]))
    maps = torch.from_numpy(np.stack([np.asarray(r.label_map) for r in records]))
    sheets = to_tensor(np.stack([np.asarray(r.conditioning_image) for r in records]))[:, 0]
    assert len(KINDS) == 10 and len(rows) > 3
    assert torch.equal(drawn(images, maps), sheets)
    assert value(correlation(drawn(images, maps), sheets)) == pytest.approx(1)
    assert abs(value(correlation(sheets, sheets.roll(1, 0)))) < 0.5


def test_correlation_by_hand() -> None:
    a = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    assert value(correlation(a, 2 * a - 5)) == pytest.approx(1)
    assert value(correlation(a, -a)) == pytest.approx(-1)
    assert value(correlation(a, torch.ones(1, 2, 2))) == 0, "a blank sheet says nothing"


def test_the_measures_fall_as_maps_get_worse() -> None:
    values = []
    for share in (0.0, 0.3, 0.6):
        noise = torch.rand(FILLED.shape, generator=torch.Generator().manual_seed(0)) < share
        maps = torch.where(noise, 0, FILLED).to(torch.uint8)
        values.append(
            (value(box_overlap(maps, LAYOUTS)), value(overlap(maps, FILLED, 4)), value(accuracy(maps, FILLED)))
        )
    for better, worse in pairwise(values):
        assert all(a > b for a, b in zip(better, worse, strict=True))

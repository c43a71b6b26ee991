"""Boxes: clipped, not moved, by a crop; mirrored; refused outside the picture."""

import pytest

from calotype.errors import UserError
from calotype.layout import UNLABELLED, Box, Layout, Window, check_labels

BOX = Box(3, 0.25, 0.5, 0.75, 1.0)


def test_a_crop_clips_what_sticks_out() -> None:
    """The reference would move this box to (0, 0.4) ... (1, ...) and keep its width."""
    seen = BOX.seen_through(Window(0.5, 0.25, 1.0, 0.75))
    assert seen == Box(3, 0.0, 0.5, 0.5, 1.0)
    assert BOX.seen_through(Window(0.0, 0.0, 1.0, 0.5)) is None, "an edge is no part"
    assert BOX.seen_through(Window()) == BOX


def test_a_crop_of_a_crop_is_a_crop() -> None:
    layout = Layout((BOX, Box(1, 0.0, 0.0, 0.2, 0.2)))
    once = layout.cropped(Window(0.25, 0.25, 1.0, 1.0)).cropped(Window(0.0, 0.0, 0.5, 0.5))
    assert once == layout.cropped(Window(0.25, 0.25, 0.625, 0.625))
    assert once.window == Window(0.25, 0.25, 0.625, 0.625) and len(once.boxes) == 1


def test_small_rests_can_be_left_out() -> None:
    layout = Layout((BOX,)).cropped(Window(0.0, 0.0, 1.0, 0.505), least=0.01)
    assert layout.boxes == ()


def test_twice_mirrored_is_the_same() -> None:
    assert BOX.mirrored() == BOX, "it is symmetric"
    off = Box(0, 0.125, 0.0, 0.25, 1.0)
    assert off.mirrored() == Box(0, 0.75, 0.0, 0.875, 1.0) and off.mirrored().mirrored() == off
    assert Layout((off,), Window(0.75, 0, 1, 1)).mirrored() == Layout((off.mirrored(),), Window(0, 0, 0.25, 1))


def test_a_mirrored_crop_is_a_crop_of_the_mirror_image() -> None:
    layout, window = Layout((BOX, Box(1, 0.0, 0.0, 0.25, 0.25))), Window(0.125, 0.25, 0.625, 1.0)
    assert layout.cropped(window).mirrored() == layout.mirrored().cropped(window.mirrored())


@pytest.mark.parametrize(
    "corners", [(-0.1, 0, 1, 1), (0, 0, 1.1, 1), (0.5, 0, 0.5, 1), (0, 1, 1, 0), (0, 0, float("nan"), 1)]
)
def test_boxes_that_cannot_be(corners: tuple[float, float, float, float]) -> None:
    with pytest.raises(UserError, match="a box"):
        Box(0, *corners)
    with pytest.raises(UserError, match="a window"):
        Window(*corners)


def test_a_class_must_be_known() -> None:
    check_labels([BOX], ["a", "b", "c", "d"])
    with pytest.raises(UserError, match=r"a box has the class 3, but there are 2: 0 \.\.\. 1"):
        check_labels([BOX], ["a", "b"])


def test_boxes_are_painted_over_the_middles_of_pixels_the_smallest_on_top() -> None:
    layout = Layout((Box(2, 0.25, 0.25, 0.75, 0.5), Box(1, 0.0, 0.0, 1.0, 0.5), Box(0, 0.9, 0.9, 0.95, 0.95)))
    x = UNLABELLED
    assert layout.painted(4, 4).tolist() == [[1, 1, 1, 1], [1, 2, 2, 1], [x] * 4, [x] * 4], (
        "one is under a pixel's middle"
    )
    assert layout.painted(100, 100)[92, 92] == 0
    assert Layout().painted(2, 3).tolist() == [[x] * 3] * 2


def test_a_painted_mirror_image_is_the_mirrored_painting() -> None:
    layout = Layout((Box(2, 0.21, 0.3, 0.68, 0.52), Box(1, 0.0, 0.1, 0.47, 0.9)))
    assert (layout.mirrored().painted(37, 41) == layout.painted(37, 41)[:, ::-1]).all()

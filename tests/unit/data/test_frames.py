"""Which size boxes are counted in."""

import pytest
from PIL import Image

from calotype.data.annotations import Size
from calotype.data.frames import Frames, as_stored, same_shape, scaled_alike
from calotype.data.images import Header

TURN = Image.Transpose.ROTATE_270


def test_shapes_are_alike_but_for_a_pixel_of_the_smaller() -> None:
    assert same_shape((64, 47), (640, 480)) and not same_shape((640, 480), (64, 47))
    assert scaled_alike((640, 480), (64, 47)) and scaled_alike((64, 47), (640, 480))
    assert not scaled_alike((640, 480), (480, 640)) and not scaled_alike((640, 480), (64, 45))


@pytest.mark.parametrize(
    ("frame", "stored"),
    [((40, 20), True), ((20, 40), False), ((80, 40), True), ((10, 20), False), ((20, 20), False)],
)
def test_frames_of_what_is_stored(frame: Size, stored: bool) -> None:
    assert as_stored(frame, Header((40, 20), TURN)) == stored
    assert not as_stored((20, 20), Header((20, 20), TURN)), "both: upright is meant"


def test_odd_frames_are_counted() -> None:
    frames, header = Frames(), Header((40, 20))
    told = (None, (40, 20), (80, 40), (8, 4), (20, 40))
    assert [frames(size, header, f"{k}.png") for k, size in enumerate(told)] == [None, (40, 20), (80, 40), (8, 4), None]
    scaled, other = frames.remarks
    assert scaled.startswith("annotations give 2 of 5 pictures with boxes another size")
    assert scaled.endswith("2.png is 40 x 20, not 80 x 40") and other.endswith("4.png is 40 x 20, not 20 x 40")

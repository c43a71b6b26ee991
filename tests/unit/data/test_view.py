"""What belongs to a picture is cut and mirrored with it, whatever is kept in memory."""

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from calotype.data.images import square
from calotype.data.source import Record, Source
from calotype.data.view import LONGEST, Augment, Cut, Cutter, View
from calotype.layout import Box

COLOURS = [(0, 0, 0), (250, 20, 20), (20, 250, 20), (20, 20, 250)]
"""Of areas 0 ... 3: a picture of these says what its label map must be."""


class Painted(Source):
    """Rectangles of plain colours with exact boxes and label maps; the conditioning image is the picture, inverted."""

    name, classes, objects, areas, paired = "painted", (), ("red", "green", "blue"), ("paper", "r", "g", "b"), True

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = list(sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Record:
        width, height = self.sizes[index]
        rng = np.random.default_rng(index)
        labels, boxes = np.zeros((height, width), np.uint8), []
        for k in range(3):
            x0, y0 = int(rng.integers(0, width - 8)), int(rng.integers(0, height - 8))
            x1, y1 = int(rng.integers(x0 + 4, width + 1)), int(rng.integers(y0 + 4, height + 1))
            labels[y0:y1, x0:x1] = k + 1
            boxes.append(Box(k, x0 / width, y0 / height, x1 / width, y1 / height))
        pixels = np.array(COLOURS, np.uint8)[labels]
        return Record(
            Image.fromarray(pixels),
            "",
            -1,
            str(index),
            tuple(boxes),
            Image.fromarray(labels),
            Image.fromarray(255 - pixels),
        )

    def captions(self) -> Sequence[str]:
        return [""] * len(self)

    def labels(self) -> Sequence[int]:
        return [-1] * len(self)

    def key(self, index: int) -> str:
        return str(index)

    def fingerprint(self) -> str:
        return repr(self.sizes)


SOURCE = Painted([(64, 64), (96, 64), (64, 100), (40, 30), (300, 40), (128, 128)])
VIEWS = [View(), View(0.0, 1.0), View(0.3, 0.8, mirror=True), View(0.9, 0.1, 0.5), View(0.5, 0.5, 0.7, True)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("index", range(len(SOURCE)))
def test_everything_shows_the_same_part(index: int, view: View) -> None:
    cut = Cutter(SOURCE, 32, moves=True)(index, view)
    assert cut.pixels.shape == (32, 32, 3) and cut.label_map is not None and cut.conditioning_image is not None
    painted = np.array(COLOURS, np.int16)[cut.label_map]
    # away from edges, where Lanczos mixes colours, the picture is of its label map's colours
    near = np.abs(painted - cut.pixels).max(-1) < 60
    assert near.mean() > 0.75
    np.testing.assert_allclose(cut.conditioning_image.astype(int), 255 - cut.pixels.astype(int), atol=2)
    for box in cut.layout.boxes:
        x0, x1, y0, y1 = (round(c * 32) for c in (box.x0, box.x1, box.y0, box.y1))
        outside = np.ones((32, 32), bool)
        outside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
        assert not (outside & (cut.label_map == box.label + 1)).any(), "nothing of an object lies outside its box"


def test_a_mirrored_view_is_the_mirror_image() -> None:
    cutter = Cutter(SOURCE, 32, moves=True)
    plain, mirrored = cutter(1, View(0.2, 0.5)), cutter(1, View(0.2, 0.5, mirror=True))
    assert np.array_equal(plain.pixels[:, ::-1], mirrored.pixels)
    assert plain.label_map is not None and mirrored.label_map is not None
    assert np.array_equal(plain.label_map[:, ::-1], mirrored.label_map)
    assert mirrored.layout == plain.layout.mirrored()


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_kept_does_not_matter(view: View) -> None:
    keeping, afresh = Cutter(SOURCE, 32, moves=True), Cutter(SOURCE, 32, moves=True, room=0)
    for index in [*range(len(SOURCE))] * 2:
        a, b = keeping(index, view), afresh(index, view)
        assert np.array_equal(a.pixels, b.pixels) and a.layout == b.layout
        assert np.array_equal(a.label_map, b.label_map)  # type: ignore[arg-type]  # painted pictures have maps


def test_long_pictures_are_not_kept_whole() -> None:
    cutter = Cutter(SOURCE, 32, moves=True)
    assert SOURCE.sizes[4][0] > LONGEST * SOURCE.sizes[4][1]
    for index in range(len(SOURCE)):
        cutter(index, View(0.1))
    assert 4 not in cutter._kept and 0 in cutter._kept


def test_zoomed_views_are_of_their_share() -> None:
    """Half of the short side shows half as much of the original, at full resolution."""
    record = SOURCE[5]
    whole, half = Cut.square(record, 64, View()), Cut.square(record, 64, View(0.0, 0.0, 0.5))
    assert (whole.layout.window.x1, half.layout.window.x1) == (1.0, 0.5)
    corner = record.image.crop((0, 0, 64, 64))
    assert np.array_equal(half.pixels, np.asarray(corner.resize((64, 64))))
    assert np.array_equal(np.asarray(square(record.image, 64, 0.0, 0.0, 0.5)), half.pixels)


def test_zoom_is_uniform_between_its_limit_and_one() -> None:
    sizes = np.array([Augment(crop=True, zoom=0.5).draw(0, k, 0).size for k in range(4000)])
    assert 0.5 <= sizes.min() < 0.51 and 0.99 < sizes.max() <= 1.0 and abs(sizes.mean() - 0.75) < 0.01
    assert {Augment(crop=True).draw(0, k, 0).size for k in range(50)} == {1.0}

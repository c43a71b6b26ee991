"""Wishes as people see them."""

import pytest
import torch
from tests.condition_toys import Squares

from calotype.conditioning.conditioner import Conditioners
from calotype.conditioning.layout import LayoutConfig
from calotype.data.colours import colour
from calotype.generation.wishes import (
    MISSING,
    area_picture,
    drawings,
    enlarged,
    layout_picture,
    sheet,
    texts,
)
from calotype.layout import Box, Layout


class Hats:
    """A corpus with boxes."""

    classes, objects, areas, entries = (), ("hat", "shoe"), (), ("layout",)
    shrinks = 1

    def captions(self) -> list[str]:
        return []


def bytes_of(picture: torch.Tensor) -> torch.Tensor:
    return ((picture + 1) * 127.5).round().long()


def test_texts_say_what_there_is_to_say() -> None:
    wishes = {"caption": ["a hat", "", "a shoe"], "label": [2, -1, "cat"], "hole": [0, 0, 0]}
    assert texts(wishes, 3) == ["a hat / 2", "", "a shoe / cat"]
    assert texts(wishes, 3, ["x", "y", "hats"])[0] == "a hat / hats"
    assert texts({}, 2) == ["", ""]


def test_boxes_are_drawn_where_they_are() -> None:
    picture = bytes_of(layout_picture(Layout((Box(1, 0.25, 0.5, 0.75, 1.0),)), ("hat", "shoe"), (64, 64)))
    edge = torch.tensor(colour(1))
    assert torch.equal(picture[:, 40, 16], edge) and torch.equal(picture[:, 32, 40], edge)
    assert torch.equal(picture[:, 40, 46], edge) and torch.equal(picture[:, 63, 40], edge)
    outside = picture.clone()
    outside[:, 32:, 16:48] = 255
    assert (outside == 255).all()


def test_boxes_are_drawn_in_the_shape_of_the_picture() -> None:
    tall = bytes_of(
        layout_picture(Layout((Box(1, 0.5, 0.75, 1.0, 1.0), Box(2, 0.5, 0.5, 0.501, 0.501))), "ab", (80, 40))
    )
    inked = (tall != 255).any(0)
    assert tall.shape == (3, 80, 40) and inked[60:, 20:].any() and not inked[:38].any()
    layout = {"layout": [Layout()]}
    for size, drawn in (
        (None, (256, 256)),
        ((64, 32), (256, 128)),
        ((300, 400), (300, 400)),
        ((1024, 2048), (256, 512)),
    ):
        (picture,) = drawings(layout, Conditioners({}, {}), size)["layout"]
        assert picture.shape == (3, *drawn)


def test_areas_have_colours_of_their_own() -> None:
    areas = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    picture = bytes_of(area_picture(areas))
    assert torch.equal(picture[:, 0, 7], torch.tensor(colour(7)))
    assert torch.equal(picture[:, 15, 15], torch.full((3,), 255)), "unlabelled"
    assert len({colour(k) for k in range(64)}) == 64


def test_small_pictures_are_enlarged_by_whole_pixels() -> None:
    small = torch.rand(3, 5, 4) * 2 - 1
    large = enlarged(small, 20)
    assert large.shape == (3, 20, 16) and torch.equal(large[:, ::4, ::4], small)
    assert enlarged(large, 8).shape == large.shape


def test_holes_are_grey_and_the_rest_is_the_picture() -> None:
    image, hole = torch.rand(3, 8, 8) * 2 - 1, torch.zeros(1, 8, 8, dtype=torch.bool)
    hole[:, 2:4] = True
    (drawn,) = drawings({"image": [image], "hole": [hole]}, Conditioners({}, {}))["hole"]
    assert (drawn[:, 2:4] == MISSING).all() and torch.equal(drawn[:, 4:], image[:, 4:])


def test_every_wish_that_is_a_picture_is_drawn() -> None:
    configs = {"boxes": LayoutConfig(width=16, depth=1, heads=2, objects=2, vocabulary=30)}
    conditioner = Conditioners.fit(configs, Hats(), Squares())
    assert conditioner.names == {"layout": ("hat", "shoe")}
    picture = torch.zeros(3, 8, 8)
    wishes = {
        "caption": ["a hat"],
        "layout": [Layout((Box(0, 0.0, 0.0, 0.5, 0.5),))],
        "label_map": [torch.zeros(8, 8, dtype=torch.uint8)],
        "low_resolution": [torch.zeros(3, 2, 2)],
        "image": [picture],
        "hole": [torch.ones(1, 8, 8, dtype=torch.bool)],
        "conditioning_image": [picture],
        "reference": [picture],
    }
    drawn = drawings(wishes, conditioner)
    assert set(drawn) == set(wishes) - {"caption", "image"}
    tiles = sheet(drawn, 32)
    assert tiles.shape == (len(drawn), 3, 32, 32) and tiles.min() >= -1 and tiles.max() <= 1


@pytest.mark.parametrize(("sizes", "side"), [([(8, 8), (20, 4)], 256), ([(8, 8), (40, 300)], 300), ([(999, 9)], 512)])
def test_a_sheet_has_room_for_the_largest(sizes: list[tuple[int, int]], side: int) -> None:
    tiles = sheet({str(size): [torch.zeros(3, *size)] for size in sizes})
    assert tiles.shape == (len(sizes), 3, side, side)


@pytest.mark.parametrize("size", [(8, 8), (8, 20), (100, 30)])
def test_a_sheet_keeps_shapes(size: tuple[int, int]) -> None:
    """What is not square is centred on white."""
    (tile,) = sheet({"x": [torch.zeros(3, *size)]}, 40)
    scale = 40 / max(size)
    inked = tile[0].abs() < 0.5
    height, width = int(inked.any(1).sum()), int(inked.any(0).sum())
    assert abs(height - size[0] * scale) <= 1 and abs(width - size[1] * scale) <= 1

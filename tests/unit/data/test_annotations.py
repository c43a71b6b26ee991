"""Boxes come out of files where they were drawn; what makes no sense is said in one sentence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calotype.data import annotations
from calotype.data.annotations import PixelBox, Sieve, read_coco, read_layouts, turned
from calotype.errors import UserError
from calotype.layout import Box, Layout

CLASSES = ("heart", "Clock", "clock", "face")
GOOD: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 50}, {"id": "b", "file_name": "b.png"}],
    "categories": [{"id": 9, "name": "face"}, {"id": 2, "name": "heart", "supercategory": "thing"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 2, "bbox": [10, 5, 30, 20.0]},
        {"id": 2, "image_id": 7, "category_id": 9, "bbox": [0, 0, 1, 1], "iscrowd": 1},
        {"id": 3, "image_id": 7, "caption": " a\n heart "},
        {"image_id": 7, "category_id": 9, "bbox": [-0.4, 0, 100.9, 50]},
    ],
}


def written(folder: Path, value: object) -> Path:
    path = folder / "boxes.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def changed(key: str, **changes: object) -> dict[str, Any]:
    """The good file with the first entry under `key` changed; None removes."""
    first, *rest = GOOD[key]
    entry = {k: v for k, v in (first | changes).items() if v is not None}
    return GOOD | {key: [entry, *rest]}


def test_coco(tmp_path: Path) -> None:
    found = read_coco(written(tmp_path, GOOD))
    assert found.categories == ("heart", "face")  # by id
    first, second = found.pictures
    assert (first.name, first.size, first.captions) == ("a.png", (100, 50), ("a heart",))
    assert [(b.category, b.x, b.y, b.width, b.height) for b in first.boxes] == [
        ("heart", 10, 5, 30, 20),
        ("face", -0.4, 0, 100.9, 50),
    ]
    assert (second.size, second.boxes) == (None, ())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{broken", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1") + "{", "is not JSON"),
        ([1], "is no COCO file: it holds no object"),
        ({"images": []}, "has no list 'annotations'"),
        ({"images": {}, "annotations": []}, "has no list 'images'"),
        (changed("images", id=None), "image number 1 has no 'id'"),
        (GOOD | {"images": [*GOOD["images"], GOOD["images"][0]]}, "the id '7' under 'images' is given twice"),
        (changed("images", width=-1), "image 7 is -1 x 50; write width and height"),
        (changed("images", width="wide"), "image 7 is wide x 50"),
        (changed("categories", name=""), "category 9 has no 'name'"),
        (changed("categories", name="heart"), "two categories are called 'heart'"),
        (changed("annotations", image_id=8), "annotation 1 belongs to image 8, which is not under 'images'"),
        (changed("annotations", image_id=[7]), r"belongs to image \[7\]"),
        (changed("annotations", category_id=3), "annotation 1 has category 3, which is not under 'categories'"),
        (changed("annotations", bbox=[1, 2, 3]), r"annotation 1: the box is \[1, 2, 3\]; write four numbers"),
        (changed("annotations", bbox=[1, 2, 3, "4"]), "write four numbers"),
        (changed("annotations", bbox=[1, 2, 3, True]), "write four numbers"),
        (json.dumps(changed("annotations", bbox=[0, 0, 1, 123456])).replace("123456", "NaN"), "write four numbers"),
        (json.dumps(changed("annotations", bbox=[0, 0, 1, 123456])).replace("123456", "9" * 400), "four numbers"),
        (changed("annotations", category_id="\ud800"), "annotation 1 has category"),
    ],
)
def test_what_is_no_coco_file_is_said(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_coco(written(tmp_path, value))
    assert "boxes.json" in str(caught.value) and "\n" not in str(caught.value)
    str(caught.value).encode()  # it can be printed


def test_files_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotations, "MAX_BYTES", 100)
    monkeypatch.setattr(annotations, "MAX_WISH_BYTES", 100)
    for read in (read_coco, lambda path: read_layouts(path, CLASSES)):
        with pytest.raises(UserError, match=r"boxes\.json has \d+ bytes, more than 100"):
            read(written(tmp_path, GOOD))
        with pytest.raises(UserError, match=r"nowhere\.json cannot be read"):
            read(tmp_path / "nowhere.json")


def test_what_is_no_ordinary_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "circle.json").symlink_to("circle.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("folder.json", "circle.json", "zero.json"):
        for read in (read_coco, lambda path: read_layouts(path, CLASSES)):
            with pytest.raises(UserError, match=rf"{name} is no ordinary file"):
                read(tmp_path / name)


def test_an_id_is_given_once(tmp_path: Path) -> None:
    """What has none is counted, and may have the number of another's id."""
    first, second, third, fourth = GOOD["annotations"]
    found = read_coco(
        written(tmp_path, GOOD | {"annotations": [first, second, first, third, first | {"id": 4}, fourth]})
    )
    assert found.repeated == 1 and len(found.pictures[0].boxes) == 3
    found = read_coco(written(tmp_path, GOOD | {"annotations": [{**first, "id": 2}, fourth]}))
    assert found.repeated == 0 and len(found.pictures[0].boxes) == 2


@pytest.mark.parametrize(
    ("pixels", "corners"),
    [
        ((10, 5, 30, 20), (0.1, 0.1, 0.4, 0.5)),
        ((-2, 0, 50, 50), (0, 0, 0.48, 1)),
        ((90, 40, 10.5, 10.5), (0.9, 0.8, 1, 1)),
        ((90, 40, 60, 10), None),  # 60 of 600 pixels inside: corners were written instead of width and height
        ((10, 5, 0, 20), None),
        ((10, 5, -3, 20), None),
        ((100, 5, 10, 20), None),
        ((1e308, 5, 1e308, 20), None),
    ],
)
def test_pixels_become_shares(
    pixels: tuple[float, float, float, float], corners: tuple[float, float, float, float] | None
) -> None:
    found = PixelBox("heart", *pixels, "here").relative(3, (100, 50))
    assert (found is None) == (corners is None)
    if found is not None and corners is not None:
        assert (found.x0, found.y0, found.x1, found.y1) == pytest.approx(corners) and found.label == 3


def test_a_few_useless_boxes_are_left_out_and_many_are_a_mistake() -> None:
    good, bad = PixelBox("heart", 1, 1, 5, 5, "good"), PixelBox("heart", 1, 1, 0, 5, "boxes.json, annotation 3")
    sieve = Sieve()
    assert len(sieve([good] * 19 + [bad], {"heart": 0}, (10, 10))) == 19
    sieve.check()
    sieve([bad], {"heart": 0}, (10, 10))
    with pytest.raises(UserError, match=r"2 of 21 boxes .* the first: boxes\.json, annotation 3, \[1, 1, 0, 5\] in a"):
        sieve.check()


@pytest.mark.parametrize("turn", [m for m in Image.Transpose if m.name in ("TRANSPOSE", "TRANSVERSE", "ROTATE_90")])
def test_boxes_turn_as_pictures_do(turn: Image.Transpose) -> None:
    """Against the pixels of a turned picture."""
    for way in (turn, Image.Transpose.ROTATE_270):
        image = np.zeros((20, 40), dtype=np.uint8)
        image[4:10, 8:20] = 255
        ys, xs = np.nonzero(np.asarray(Image.fromarray(image).transpose(way)))
        found = turned(Box(1, 8 / 40, 4 / 20, 20 / 40, 10 / 20), way)
        corners = (xs.min() / 20, ys.min() / 40, (xs.max() + 1) / 20, (ys.max() + 1) / 40)
        assert (found.x0, found.y0, found.x1, found.y1) == pytest.approx(corners)


def test_layouts_in_short(tmp_path: Path) -> None:
    heart: Mapping[str, object] = {"class": "HEART", "box": [0, 0.25, 0.5, 1]}
    one = read_layouts(written(tmp_path, [heart, {"class": "clock", "box": [0.1, 0.2, 0.6, 0.7]}]), CLASSES)
    assert one == [Layout((Box(0, 0, 0.25, 0.5, 1), Box(2, 0.1, 0.2, 0.6, 0.7)))]
    several = read_layouts(written(tmp_path, [[heart], [], [heart, heart]]), CLASSES)
    assert [len(layout.boxes) for layout in several] == [1, 0, 2]
    assert read_layouts(written(tmp_path, []), CLASSES) == [Layout()]


def test_layouts_in_coco(tmp_path: Path) -> None:
    value = GOOD | {"images": [GOOD["images"][0], {"id": 3, "width": 10, "height": 10}]}
    first, second = read_layouts(written(tmp_path, value), CLASSES)
    assert first == Layout((Box(0, 0.1, 0.1, 0.4, 0.5), Box(3, 0, 0, 1, 1))) and second == Layout()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("heart", "is not JSON"),
        ("3", "holds no layouts"),
        (
            [{"class": "hart", "box": [0, 0, 1, 1]}],
            r"boxes\.json, box 1: unknown class of objects .* did you mean 'heart'",
        ),
        (
            [[], [{"class": "heart", "box": [0, 0, 1, 1]}, {"class": "x", "box": [0, 0, 1, 1]}]],
            "layout 2, box 2: unknown",
        ),
        ([{"class": "heart", "box": [0, 0, 1.5, 1]}], r"box 1: a box must lie inside the picture"),
        ([{"class": "heart", "box": [0.5, 0, 0.5, 1]}], "box 1: a box needs x0 < x1"),
        ([{"class": "heart", "box": [0, 0, 1]}], "box 1: the box is .* the corners x0, y0, x1, y1"),
        ([{"class": "heart"}], "box 1 is .* write"),
        ([{"class": 3, "box": [0, 0, 1, 1]}], "box 1 is"),
        ([[{"class": "heart", "box": [0, 0, 1, 1]}], [3]], "layout 2, box 1 is 3"),
        ([[{"class": "heart", "box": [0, 0, 1, 1]}], {}], "box 1 is"),
        (GOOD | {"images": [], "annotations": []}, "lists no images"),
        (changed("images", width=None), "image 7 has no 'width' and 'height'"),
        (changed("annotations", bbox=[90, 5, 12, 20]), r"annotation 1 lies outside the picture .*100 x 50"),
        (changed("annotations", bbox=[10, 5, 0, 20]), "annotation 1 lies outside the picture or has no"),
        (changed("categories", name="hat"), r"boxes\.json, annotation 4: unknown class of objects 'hat'"),
        (changed("annotations", id=3), r"boxes\.json: 1 annotations have the id of an earlier one; give each its own"),
    ],
)
def test_mistaken_wishes(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_layouts(written(tmp_path, value), CLASSES)
    assert "\n" not in str(caught.value)

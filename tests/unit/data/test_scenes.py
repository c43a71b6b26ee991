"""Scenes: what is said about them is what is in them, pixel by pixel."""

import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from calotype.data.scenes import HIDDEN, KINDS, MOST, Scenes, ScenesConfig, drawing
from calotype.data.source import Record
from calotype.errors import UserError

SOME = range(0, 320, 5)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(n=512)


@pytest.fixture(scope="module")
def records(scenes: Scenes) -> list[Record]:
    return [scenes[i] for i in SOME]


def same(a: Record, b: Record) -> bool:
    assert a.label_map is not None and a.conditioning_image is not None
    assert b.label_map is not None and b.conditioning_image is not None
    pictures = ((a.image, b.image), (a.label_map, b.label_map), (a.conditioning_image, b.conditioning_image))
    told = (a.caption, a.label, a.key, a.boxes) == (b.caption, b.label, b.key, b.boxes)
    return told and all(x.tobytes() == y.tobytes() for x, y in pictures)


def test_a_scene_is_a_function_of_split_and_number(scenes: Scenes, records: list[Record]) -> None:
    other = Scenes(n=4096, split="train")
    assert all(same(record, other[i]) for i, record in zip(SOME, records, strict=True))
    assert same(scenes[512 + 3], Scenes(n=512, split="val")[3])
    assert not same(scenes[3], scenes[512 + 3]) and len(scenes) == 512 + 64


def test_threads_paint_what_one_paints(records: list[Record]) -> None:
    fresh = Scenes(n=512)  # nothing is decoded yet
    with ThreadPoolExecutor(4) as pool:
        assert all(map(same, pool.map(fresh.__getitem__, SOME), records))


def test_boxes_are_tight(scenes: Scenes, records: list[Record]) -> None:
    """Against every pixel of every emoji, one by one."""
    for i, record in zip(SOME, records, strict=True):
        for placed, box in zip(scenes.scene(i).placed, record.boxes, strict=True):
            height, width = placed.rgba.shape[:2]
            inside = [(x, y) for y in range(height) for x in range(width) if placed.rgba[y, x, 3] >= 128]
            xs, ys = ([p[axis] for p in inside] for axis in (0, 1))
            left, top = placed.left + min(xs), placed.top + min(ys)
            right, bottom = placed.left + max(xs) + 1, placed.top + max(ys) + 1
            assert (box.x0 * 64, box.y0 * 64, box.x1 * 64, box.y1 * 64) == (left, top, right, bottom)
            assert 16 <= max(right - left, bottom - top) <= 34


def test_label_maps_agree_with_boxes_and_picture(scenes: Scenes, records: list[Record]) -> None:
    for i, record in zip(SOME, records, strict=True):
        scene, labels = scenes.scene(i), np.asarray(record.label_map)
        reach = np.zeros((64, 64), dtype=bool)
        for k, (placed, box) in enumerate(zip(scene.placed, record.boxes, strict=True)):
            seen = scene.owner == k
            assert (labels[seen] == 1 + box.label).all()
            assert seen.sum() >= (1 - HIDDEN) * placed.mask.sum()
            rows, columns = np.nonzero(seen)
            assert rows.min() >= box.y0 * 64 and rows.max() < box.y1 * 64
            assert columns.min() >= box.x0 * 64 and columns.max() < box.x1 * 64
            reach[placed.where] |= placed.rgba[..., 3] > 0
        assert (labels[scene.owner < 0] == 0).all()
        bare = np.asarray(scenes.background(i))
        assert np.array_equal(np.asarray(record.image)[~reach], bare[~reach])
        front = scene.placed[-1]
        solid = front.rgba[..., 3] == 255
        assert np.array_equal(np.asarray(record.image)[front.where][solid], front.rgba[..., :3][solid])


def test_captions_list_the_objects_from_left_to_right(scenes: Scenes, records: list[Record]) -> None:
    for i, record in zip(SOME, records, strict=True):
        words = re.sub(r"\ban? ", "", record.caption).replace(" and ", ", ").split(", ")
        assert Counter(words) == Counter(scenes.objects[box.label] for box in record.boxes)
        across = sorted(scenes.scene(i).placed, key=lambda p: p.left + p.rgba.shape[1] / 2)
        assert words == [scenes.objects[placed.sprite.kind] for placed in across]
        assert "a animal" not in record.caption and "an heart" not in record.caption
    assert {len(record.boxes) for record in records} == set(range(1, MOST + 1))


def test_the_class_is_that_of_the_largest(scenes: Scenes, records: list[Record]) -> None:
    for i, record in zip(SOME, records, strict=True):
        scene = scenes.scene(i)
        seen = {k: int((scene.owner == k).sum()) for k in range(len(scene.placed))}
        assert record.label == scene.placed[max(seen, key=seen.__getitem__)].sprite.kind


def test_no_concept_is_in_both_splits() -> None:
    concepts = {}
    for split in ("train", "val"):
        source = Scenes(n=1024 if split == "train" else 4096, split=split)
        placed = [p for i in range(len(source)) for p in source.scene(i).placed]
        concepts[split] = {p.sprite.concept for p in placed}
        assert {p.sprite.kind for p in placed} == set(range(len(KINDS)))
    assert not concepts["train"] & concepts["val"]
    assert {"yellow heart", "soccer ball", "pineapple", "derelict house"} <= concepts["val"]  # as the emoji's own split


def test_classes_are_balanced() -> None:
    for split in ("train", "val"):
        source = ScenesConfig(split=split).open()
        labels = Counter(source.labels())
        objects = Counter(p.sprite.kind for i in range(len(source)) for p in source.scene(i).placed)
        for counts in (labels, objects):
            assert len(counts) == len(KINDS) and max(counts.values()) <= 2 * min(counts.values())


def test_other_sides_show_the_same_scene(scenes: Scenes) -> None:
    large = Scenes(n=512, side=128)
    for i in range(8):
        few, many = scenes[i], large[i]
        assert many.image.size == (128, 128) and few.caption == many.caption
        for a, b in zip(few.boxes, many.boxes, strict=True):
            assert a.label == b.label and max(abs(a.x0 - b.x0), abs(a.y1 - b.y1)) < 0.05
        near = np.asarray(many.image.resize((64, 64), Image.Resampling.BOX), dtype=float)
        assert np.abs(near - np.asarray(few.image, dtype=float)).mean() < 16


def test_drawings_are_dark_lines_on_white(records: list[Record]) -> None:
    owner = np.full((8, 8), -1, dtype=np.int8)
    owner[2:6, 2:6] = 0
    flat = drawing(np.full((8, 8, 3), 200, dtype=np.uint8), owner)
    assert flat.shape == (8, 8, 3) and flat[0, 0].tolist() == [255] * 3 and flat[2, 2].tolist() == [0] * 3
    assert flat[4, 4].tolist() == [255] * 3
    white = [(np.asarray(record.conditioning_image) == 255).mean() for record in records]
    assert 0.2 < np.mean(white) < 0.95


def test_fingerprints_follow_every_choice() -> None:
    choices = [ScenesConfig(), ScenesConfig(n=512), ScenesConfig(side=32), ScenesConfig(split="val")]
    assert len({config.open().fingerprint() for config in choices}) == len(choices)


def test_a_scene_is_painted_fast(scenes: Scenes) -> None:
    scenes[0]
    began = time.process_time()
    for i in range(100):
        scenes[i]
    assert (time.process_time() - began) / 100 < 0.01  # 1.2 ms on a core of 2024; ten times that is a mistake


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ScenesConfig(n=7), "7 scenes leave none"),
        (ScenesConfig(side=8), "side must be 16 to 1024 pixels, got 8"),
        (ScenesConfig(split="tset"), "unknown split 'tset'"),
    ],
)
def test_impossible_choices_are_refused(config: ScenesConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.open()

"""What is said about a source is what is in it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.data.colours import colour
from calotype.data.folder import FolderSource
from calotype.data.scenes import Scenes
from calotype.data.summary import summarize


def test_summary_counts_what_is_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k, (name, size) in enumerate({"cats/a.png": (20, 10), "cats/b.png": (20, 10), "dogs/c.png": (8, 8)}.items()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text("a pet" if k < 2 else "")
    (tmp_path / "dogs" / "d.png").write_bytes((tmp_path / "dogs" / "c.png").read_bytes())
    (tmp_path / "dogs" / "e.png").write_bytes(b"damaged")
    told: list[int] = []
    summary, shown = summarize(FolderSource(tmp_path), thumbnails=3, side=12, advance=told.append)
    assert summary.pictures == 5 == sum(told) and summary.sizes == {(20, 10): 2, (8, 8): 2}
    assert summary.classes == {"cats": 2, "dogs": 3} and summary.smallest_side == 8
    assert (summary.captioned, summary.captions, summary.longest) == (2, 1, "a pet")
    assert list(summary.bad) == [str(Path("dogs") / "e.png")]
    assert summary.duplicates == [[str(Path("dogs") / "c.png"), str(Path("dogs") / "d.png")]]
    assert [text for _, text in shown] == ["a pet", "a pet", "dogs"]
    assert all(pixels.shape == (12, 12, 3) for pixels, _ in shown)


def test_one_picture_makes_one_thumbnail(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "only.png")
    summary, shown = summarize(FolderSource(tmp_path), thumbnails=32, side=8)
    assert summary.pictures == 1 and len(shown) == 1 and shown[0][1] == "only.png"


def test_boxes_and_maps_are_counted_and_drawn() -> None:
    source = Scenes(n=16, split="train")
    summary, shown = summarize(source, thumbnails=4, side=32)
    records = [source[i] for i in range(len(source))]
    assert sum(summary.objects.values()) == sum(len(r.boxes) for r in records)
    assert tuple(summary.objects) == source.objects and tuple(summary.areas) == source.areas
    assert summary.most_boxes == max(len(r.boxes) for r in records) and summary.paired
    assert sum(summary.areas.values()) == pytest.approx(1)
    behind = np.mean([np.asarray(r.label_map) == 0 for r in records])
    assert summary.areas["background"] == pytest.approx(behind)
    for (pixels, _), record in zip(shown, records[::4], strict=True):
        assert pixels.shape == (32, 96, 3)
        label_map, box = np.asarray(record.label_map), record.boxes[0]
        assert (pixels[:, 32:64][label_map[::2, ::2] == 0] == colour(0)).mean() > 0.8  # grey where nothing is
        assert tuple(pixels[int(box.y0 * 32), int(box.x0 * 32)]) in {colour(b.label) for b in record.boxes}


def test_maps_without_a_label_are_told(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 4), 255).save(tmp_path / "a.labels.png")
    (tmp_path / "label_map_classes.txt").write_text("sky\nsea")
    summary, _ = summarize(FolderSource(tmp_path))
    assert summary.remarks == ("no pixel of any label map has a label",)
    Image.new("L", (4, 4), 1).save(tmp_path / "a.labels.png")
    assert summarize(FolderSource(tmp_path))[0].remarks == ()


def test_without_boxes_there_are_none(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "only.png")
    summary, _ = summarize(FolderSource(tmp_path))
    assert (summary.objects, summary.most_boxes, summary.areas, summary.paired) == ({}, 0, {}, False)

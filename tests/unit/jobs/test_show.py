from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.cli import main
from calotype.console import console
from calotype.data.colours import colour
from calotype.jobs.show import show_data


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for k in range(11):
        path = folder / ("cats" if k % 2 else "dogs") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + k, 30), (20 * k, 0, 99)).save(path)
        path.with_suffix(".txt").write_text(f"[bold]number {k}")
    (folder / "cats" / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(autouse=True)
def _fresh_console() -> None:
    console.cache_clear()  # it keeps the stdout of the test before


def test_table_and_sheet(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheets" / "contact.png"
    summary = show_data(str(pictures), out)
    assert summary.pictures == 12 and len(summary.bad) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "11 readable of 12" in said
    assert "2: cats (6), dogs (6)" in said
    assert "20 x 30 (1)" in said and "and 3 more" in said
    assert "20 pixels" in said
    assert "11 of 12 pictures, 11 different; the longest: [bold]number 10" in said
    assert "bad.png" in said
    with Image.open(out) as sheet:
        assert sheet.format == "PNG" and sheet.width > 100
        assert "XML:com.adobe.xmp" not in sheet.info, "no model made these"


def test_what_is_not_there_is_hinted_at(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_data(str(pictures), None)
    said = " ".join(capsys.readouterr().out.split())
    for hint in ("COCO's annotations.json", "label_maps/cat.png for", "conditioning_images/cat.png for"):
        assert hint in said
    for path in pictures.rglob("*"):
        if path.is_file() and path.name != "0.png":
            path.unlink()
    show_data(str(pictures), None)
    assert "none; a subfolder for each, or 'label'" in " ".join(capsys.readouterr().out.split())


def test_boxes_areas_and_remarks(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    labels = Image.new("L", (10, 10), 1)
    labels.paste(255, (0, 0, 5, 10))
    labels.save(tmp_path / "a.labels.png")
    objects = {"bbox": [[0, 0, 5, 5]] * 30 + [[1, 1, 0, 0]], "categories": ["eye"] * 10 + ["ear"] * 21}
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "objects": objects}))
    out = tmp_path_factory.mktemp("sheets") / "sheet.png"
    show_data(str(tmp_path), out)
    said = " ".join(capsys.readouterr().out.split())
    assert "2: ear (20), eye (10); 30.0 boxes per picture, 30 at most" in said
    assert "2 areas: area 1 (50.0%), area 0 (0.0%); 50.0% of the pixels without a label" in said
    assert "note 1 of 31 boxes are left out" in said
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert all((pixels == colour(k)).all(-1).sum() > 100 for k in range(2))


def test_a_legend_names_boxes_and_areas(pictures: Path, tmp_path: Path) -> None:
    show_data(str(pictures), tmp_path / "bare.png")
    for path in pictures.rglob("[0-9]*.png"):
        Image.new("L", Image.open(path).size, 3).save(path.with_suffix(".labels.png"))
    (pictures / "cats" / "bad.png").unlink()
    heights = []
    for n in (4, 40, 200):
        (pictures / "label_map_classes.txt").write_text("\n".join(f"area number {k}" for k in range(n)))
        show_data(str(pictures), tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            heights.append(sheet.height)
            pixels = np.asarray(sheet)
        assert (pixels == colour(2)).all(-1).sum() > 100, "which no picture has"
    assert heights[0] < heights[1] <= heights[2] < 2 * heights[0]


def test_large_numbers_are_grouped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    objects = {"bbox": [[0, 0, 5, 5]] * 1875, "categories": ["eye"] * 1875}
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "objects": objects}))
    show_data(str(tmp_path), None)
    assert "1,875.0 boxes per picture, 1,875 at most" in " ".join(capsys.readouterr().out.split())


def test_a_sheet_replaces_nothing_but_a_sheet(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = pictures / "dogs" / "0.png"
    other, link = tmp_path / "other.png", tmp_path / "link"
    Image.new("RGB", (5, 5)).save(other)
    (tmp_path / "text.png").write_text("no picture")
    link.symlink_to(pictures)
    (tmp_path / "linked.png").symlink_to(picture)
    kept = {path: path.read_bytes() for path in (picture, other, tmp_path / "text.png")}
    for out, message in (
        (picture, "among the pictures; write the contact sheet elsewhere"),
        (pictures / "new.png", "among the pictures"),
        (link / "dogs" / "0.png", "among the pictures"),
        (other, "is there and is no contact sheet; give another name"),
        (tmp_path / "text.png", "is no contact sheet"),
        (tmp_path / "linked.png", "is no contact sheet"),
    ):
        assert main(["data", "show", str(pictures), "--out", str(out)]) == 2
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1
    assert all(path.read_bytes() == content for path, content in kept.items()) and not (pictures / "new.png").exists()
    for _ in range(2):
        assert main(["data", "show", str(pictures), "--out", str(tmp_path / "sheet.png")]) == 0


def test_nothing_is_written_unasked(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(pictures.rglob("*"))
    assert main(["data", "show", str(pictures)]) == 0
    assert sorted(pictures.rglob("*")) == before
    assert capsys.readouterr().out.strip().endswith(f"calotype train autoencoder --data {pictures}")


@pytest.mark.parametrize(("name", "message"), [("none", "there is no folder"), ("embedded:fluen", "did you mean")])
def test_mistakes(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", name]) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1

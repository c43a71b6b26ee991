"""Every verb from the command line to files, with untrained models."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.generation_toys import saved

from calotype.cli import main
from calotype.generation.images import read_png, save_png
from calotype.jobs.asked import Asked
from calotype.jobs.sample import called

QUICK = ["--steps", "2", "--sampler", "ddim", "-n", "2"]
Files = Callable[[], list[Path]]


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of every kind, and files to ask them with."""
    root = tmp_path_factory.mktemp("toys")
    for name in ("low_resolution", "semantic_map", "layout", "masked_image", "text", "class_label"):
        saved(root / name, name)
    saved(root / "plain")
    noise(13, 21).save(root / "x.png")
    noise(5, 7).save(root / "small.png")
    mask = np.zeros((13, 21), np.uint8)
    mask[4:9, 10:] = 255
    Image.fromarray(mask).save(root / "mask.png")
    Image.fromarray((np.arange(13 * 21) % 4).reshape(13, 21).astype(np.uint8) % 3).save(root / "map.png")
    (root / "boxes.json").write_text(json.dumps([{"class": "hat", "box": [0.1, 0.2, 0.6, 0.7]}]))
    return root


VERBS = {
    "sample plain": (16, 16),
    "sample plain --height 16 --width 24": (16, 24),
    "sample low_resolution --low-res small.png": (20, 28),
    "edit plain x.png --strength 0.5": (13, 21),
    "edit text x.png --caption 'a red heart' --strength 1": (13, 21),
    "edit semantic_map x.png --label-map map.png": (13, 21),
    "inpaint plain x.png mask.png": (13, 21),
    "inpaint plain x.png mask.png --renoised": (13, 21),
    "inpaint masked_image x.png mask.png": (13, 21),
    "upscale low_resolution small.png": (20, 28),
    "synthesize semantic_map map.png": (13, 21),
    "layout layout boxes.json": (16, 16),
    "layout layout boxes.json --height 24 --width 16 --window 16": (24, 16),
}


@pytest.mark.parametrize("line", VERBS)
def test_every_verb_leaves_what_it_promises(
    line: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    out = tmp_path / "sheet.png"
    assert main([*shlex.split(line), *QUICK, "--out", str(out)]) == 0
    written = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png"))
    assert written == ["sheet.png", "sheet/0000.png", "sheet/0001.png"]
    height, width = VERBS[line]
    pictures = [np.asarray(Image.open(tmp_path / name)) for name in written[1:]]
    assert all(p.shape == (height, width, 3) for p in pictures) and not np.array_equal(*pictures)
    note = read_png(tmp_path / written[1])
    assert note.generated and note.parameters.settings["Size"] == f"{width}x{height}"
    assert note.record["seed"] == 0 and note.record["sampling"]["steps"] == 2
    last = capsys.readouterr().out.strip().splitlines()[-1].split()
    assert last[:3] == ["calotype", *line.split()[:2]] and last[-2:] == ["--seed", "1"]

    again = tmp_path / "again.png"
    assert main([*shlex.split(line), *QUICK, "-n", "1", "--batch", "1", "--out", str(again)]) == 0
    other = np.asarray(Image.open(tmp_path / "again" / "0000.png"))
    assert abs(other.astype(int) - pictures[0]).max() <= 1, "sample k of a seed, however many are asked for"


def test_sheets_are_named_by_the_verb(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    assert main(["edit", "plain", "x.png", "--seed", "4", *QUICK]) == 0
    assert (runs / "plain" / "edit-x-seed4.png").is_file() and (runs / "plain" / "edit-x-seed4" / "0001.png").is_file()
    record = read_png(runs / "plain" / "edit-x-seed4.png")
    assert record.record["start"] == "x.png" and record.parameters.settings["Denoising strength"] == "0.75"


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (Asked(), "samples"),
        (Asked(captions=[""]), "samples"),
        (Asked(captions=["a red heart"]), "samples-a-red-heart"),
        (Asked(classes=["heart"]), "samples-class-heart"),
        (Asked(start=Path("d/my photo.jpg"), captions=["cat"]), "samples-my-photo-cat"),
        (Asked(image=Path("x.png"), mask=Path("m.png")), "samples-x-m"),
        (Asked(captions=["cat", "dog"]), r"samples-cat-dog-[0-9a-f]{6}"),
        (Asked(captions=["../cat?"]), r"samples-cat-[0-9a-f]{6}"),
        (Asked(captions=["猫"]), r"samples-[0-9a-f]{6}"),
        (Asked(captions=["a" * 99]), r"samples-a{33}-[0-9a-f]{6}"),
    ],
)
def test_a_sheet_is_called_after_what_was_asked_for(asked: Asked, name: str) -> None:
    assert re.fullmatch(name, called("samples", asked))


def test_other_words_do_not_write_over_a_sheet(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    for caption in ("a heart", "a face"):
        assert main(["sample", "text", "--caption", caption, *QUICK]) == 0
    assert (runs / "text" / "samples-a-heart-seed0.png").is_file() and (runs / "text" / "samples-a-face-seed0").is_dir()


def test_pictures_of_a_longer_run_before_are_removed(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    singles = tmp_path / "a"
    words = ["--steps", "1", "--out", str(tmp_path / "a.png"), "-n"]
    assert main(["sample", "plain", *words, "5"]) == 0
    assert "removed" not in capsys.readouterr().out
    noise(4, 4).save(singles / "0007.png")  # not ours
    (singles / "0008.png").write_text("no picture")
    save_png(noise(4, 4), singles / "00009.png", record={"seed": 0})  # no name of ours
    assert main(["edit", "plain", str(singles / "0003.png"), *words, "2"]) == 0
    kept = ["0000.png", "0001.png", "0003.png", "0007.png", "0008.png", "00009.png"]  # 3 is what was asked with
    assert sorted(path.name for path in singles.iterdir()) == sorted(kept)
    assert "2 pictures of an earlier run removed from" in capsys.readouterr().out


def test_all_wishes_are_checked_and_the_rest_is_told(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    layouts = [[{"class": "hat", "box": [0, 0, 1, 1]}] * k for k in (1, 3)]
    (tmp_path / "boxes.json").write_text(json.dumps(layouts))
    out = ["--steps", "1", "-n", "1", "--out", str(tmp_path / "o.png")]
    for line, told in {
        "sample class_label --class People --class dragon": "unknown class 'dragon'",
        f"sample text --caption heart --caption {'x' * 100}": "a caption is longer than the 12 word pieces",
        f"layout layout {tmp_path / 'boxes.json'}": "a layout has 3 boxes, this model takes 2 at most",
    }.items():
        assert main([*line.split(), *out]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "o.png").exists()
    captions = ["--caption", "heart", "--caption", "face", "--caption", "cat"]
    assert main(["sample", "text", *captions, *out]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 wishes, but 1 picture (-n 1): the first is drawn" in shown
    assert "sampling 1 picture, 1 step of dpmpp2m in all" in shown and " 1 picture: " in shown
    assert main(["sample", "text", *captions, *out, "-n", "2"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "3 wishes, but 2 pictures (-n 2): the first 2 are drawn" in shown and "2 steps of dpmpp2m" in shown


def test_where_nothing_can_be_written_nothing_is_sampled(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "o.png", tmp_path / "file.png", tmp_path / f"{'x' * 245}.png"):
        assert main(["sample", "plain", *QUICK, "--out", str(out)]) == 2
        told = capsys.readouterr()
        assert "check the path and its permissions, or name another place with --out" in told.err
        assert "sampling" not in told.out


@pytest.mark.parametrize(("steps", "strength"), [(20, "0.5"), (1, "1")])
def test_nothing_else_is_promised_of_a_strength_without_steps(
    steps: int, strength: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(runs)
    words = ["--strength", "0", "--steps", str(steps), "-n", "2", "--seed", "3", "--out", str(tmp_path / "o.png")]
    assert main(["edit", "plain", "x.png", *words]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the autoencoder alone, and all 2 results are alike" in shown
    assert "Next, further away from the picture:" in shown and "another" not in shown
    assert f"edit plain x.png --strength {strength} " in shown and shown.endswith("-n 2 --seed 3")
    assert read_png(tmp_path / "o" / "0000.png").record["index"] == 0


def test_a_sheet_shows_wishes_beside_results(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    widths = []
    for line in ("layout layout boxes.json", "sample layout"):
        assert main([*line.split(), *QUICK, "-n", "1", "--out", str(tmp_path / "a.png")]) == 0
        widths.append(Image.open(tmp_path / "a.png").width)
    assert widths[0] > 2 * 256 > widths[1]


@pytest.mark.parametrize("run", ["plain", "masked_image"])
@pytest.mark.parametrize("kind", ["exif", "palette", "grey", "transparent"])
def test_known_pixels_stay_whatever_the_file(
    run: str, kind: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    image, exif = noise(13, 21), Image.Exif()
    if kind == "exif":
        exif[0x0112] = 6
        image = image.transpose(Image.Transpose.ROTATE_90)
    image = image.convert({"palette": "P", "grey": "L", "transparent": "RGBA"}.get(kind, "RGB"))
    if kind == "transparent":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "x.png", exif=exif)
    line = ["inpaint", run, str(tmp_path / "x.png"), "mask.png", *QUICK, "-n", "1", "--out", str(tmp_path / "o.png")]
    assert main(line) == 0
    with Image.open(tmp_path / "x.png") as file:
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(file).convert("RGBA")
        given = np.asarray(Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB"))
    result = np.asarray(Image.open(tmp_path / "o" / "0000.png"))
    known = np.asarray(Image.open("mask.png")) < 128
    assert result.shape == (13, 21, 3) and np.array_equal(result[known], given[known])
    assert not np.array_equal(result[~known], given[~known])


def test_what_a_person_should_know_is_said(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    out = ["--steps", "1", "-n", "1", "--out", str(tmp_path / "o.png")]
    for line, told in {
        "inpaint plain x.png mask.png": "not trained to complete pictures: .* --recipe small-inpainting`",
        "edit plain x.png --strength 0.1": "strength 0.1 leaves no step to take: the picture passes through the autoen",
        "sample text --caption 'a red heart' --height 24 --width 24 --window 16": "24 x 24 is large: it is sampled in "
        "overlapping windows of 16 pixels, and what is wished for is drawn in each",
        "sample text --caption 'a zeppelin'": "in no caption of the training set: zeppelin",
    }.items():
        assert main([*shlex.split(line), *out]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert re.search(told, said), said
    assert read_png(tmp_path / "o.png").parameters.settings["CFG scale"] == "3"


def test_nothing_to_guide_is_noted_as_scale_1(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    assert main(["sample", "plain", "--steps", "1", "-n", "1", "--out", str(tmp_path / "o.png")]) == 0
    assert read_png(tmp_path / "o.png").parameters.settings["CFG scale"] == "1"


def test_a_scale_without_effect_is_told_once(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    out = ["--steps", "1", "-n", "1", "--out", str(tmp_path / "o.png")]
    remark = "this model has no wish that guidance could strengthen; --scale has no effect"
    for line, times, again in (
        ("sample plain --scale 7", 1, 0),
        ("upscale low_resolution small.png --scale 3", 1, 0),
        ("sample plain", 0, 0),
        ("sample text --scale 7", 0, 1),
    ):
        assert main([*line.split(), *out]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert shown.count(remark) == times and shown.partition("Next")[2].count("--scale") == again


def test_a_plan_is_printed_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inpaint", "nowhere", "a.png", "b.png", "--window", "64", "--print-config"]) == 0
    shown = capsys.readouterr().out
    assert "window: 64" in shown and "scale: 3.0" in shown
    assert main(["upscale", "nowhere", "a.png", "--print-config"]) == 0
    assert "scale: 1.0" in capsys.readouterr().out

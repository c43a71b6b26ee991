"""Every recipe for a kind of wish: it trains on scenes, is asked by its verb, and is not trained without its wish."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.cli import main
from calotype.recipes import recipes

SMALL = [
    *("data.side=16", "trainer.steps=2", "trainer.batch_size=2", "trainer.measure=false", "trainer.tensorboard=false"),
    *("preview.steps=2", "network.channels=32"),
]
"""Pixels of 16 x 16, so that a training takes a second."""

WITHOUT = {
    "layout": ("boxes", []),
    "semantic": ("label maps", []),
    "image-to-image": ("conditioning images", []),
    "inpainting": ("holes", ["data.mask=null"]),
    "super-resolution": ("low-resolution pictures", ["data.degradation=null"]),
    "blind-super-resolution": ("low-resolution pictures", ["data.degradation=null"]),
}
"""Task -> what data without its wish lack, and what takes it away where it is made."""


def ask(task: str, run: str, folder: Path) -> list[str]:
    """The words of a verb for a model of this task; its files are written to the folder."""
    rng = np.random.default_rng(0)
    picture, small, hole = (folder / name for name in ("photo.png", "small.png", "hole.png"))
    pixels = rng.integers(0, 256, (24, 18, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    Image.fromarray(pixels[:5, :6]).save(small)
    Image.fromarray(np.where(np.arange(18) < 9, 0, 255)[None].repeat(24, 0).astype(np.uint8)).save(hole)
    Image.fromarray(rng.integers(0, 11, (24, 18), dtype=np.uint8)).save(folder / "areas.png")
    boxes = [{"class": "heart", "box": [0.1, 0.1, 0.5, 0.6]}]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    words = {
        "captions": ["sample", run, "--caption", "a heart", "--class", "heart"],
        "layout": ["layout", run, folder / "boxes.json"],
        "semantic": ["synthesize", run, folder / "areas.png"],
        "inpainting": ["inpaint", run, picture, hole],
        "super-resolution": ["upscale", run, small],
        "blind-super-resolution": ["upscale", run, small],
        "image-to-image": ["sample", run, "--conditioning-image", picture],
        "variations": ["sample", run, "--reference", picture],
    }
    return [str(word) for word in words[task]]


def tasks() -> list[str]:
    """What the small recipes of second stages are for."""
    return [r.name.removeprefix("small-") for r in recipes("diffusion") if r.name.startswith("small-")]


@pytest.mark.parametrize("task", tasks())
def test_a_recipe_trains_and_its_verb_answers(task: str, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    words = ["--recipe", f"small-{task}", "--data", "embedded:scenes/val", "--autoencoder", "pixels", "--out", run]
    assert main(["train", "diffusion", *words, *SMALL]) == 0
    out = tmp_path / "out.png"
    assert main([*ask(task, run, tmp_path), "-n", "2", "--steps", "2", "--out", str(out)]) == 0
    made = [np.asarray(Image.open(file)) for file in sorted((tmp_path / "out").glob("*.png"))]
    assert len(made) == 2 and out.is_file()
    size = {"super-resolution": (20, 24), "captions": (16, 16), "layout": (16, 16), "variations": (16, 16)}
    wanted = size.get(task.removeprefix("blind-"), (24, 18))
    assert all(picture.shape == (*wanted, 3) for picture in made)
    if task == "inpainting":
        photo = np.asarray(Image.open(tmp_path / "photo.png"))
        assert all((picture[:, :9] == photo[:, :9]).all() for picture in made)


@pytest.mark.parametrize("task", WITHOUT)
def test_a_recipe_is_not_trained_without_what_it_is_about(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, away = WITHOUT[task]
    words = ["--recipe", f"small-{task}", "--data", "embedded:fashion/val", "--autoencoder", "pixels", *away]
    assert main(["train", "diffusion", *words, *SMALL, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert f"the data has no {missing}, but the recipe conditions on them" in told and "=null" in told
    assert not (tmp_path / "run" / "model").exists()

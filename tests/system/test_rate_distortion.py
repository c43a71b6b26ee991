"""The study of rate and distortion, from finished runs to its page, and from nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.system.conftest import World, tiny_diffusion

from calotype.cli import main
from calotype.data.folder import open_source
from calotype.errors import UserError
from calotype.files import read_json, write_json
from calotype.jobs.rate_distortion import Coding, open_models
from calotype.jobs.train import train_diffusion
from calotype.model import LatentDiffusion
from calotype.studies.rate_distortion import RateDistortionStudy

FEW = Coding(steps=6, points=4, limit=4, flow=2, flow_steps=1)


@pytest.fixture(scope="module")
def pixels(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of pixels beside the world's latent one."""
    out = tmp_path_factory.mktemp("coded") / "pixels"
    config = replace(tiny_diffusion(world.pictures, "pixels", steps=2), conditioners={})
    train_diffusion(config, out)
    return out


def test_finished_runs_are_measured(world: World, pixels: Path, tmp_path: Path) -> None:
    """A conditional model of latents and an unconditional one of pixels."""
    runs = (str(pixels), str(world.diffusion))
    study = RateDistortionStudy(runs=runs, data=str(world.pictures), coding=FEW)
    page = study.run(tmp_path / "out")
    made = {path.name for path in page.parent.iterdir()}
    assert made == {
        *("report.html", "scores.json", "study.json", "table.md", "curve.md", "flow.md", "curves"),
        *("rate-rmse.png", "rate-perceptual.png", "rate-perceptual-log.png", "spent.png"),
        *("received-pixels.png", "received-second.png"),
    }
    scores = read_json(page.parent / "scores.json")
    first, second = (row["found"] for row in scores["rows"])
    assert (first["factor"], second["factor"]) == (1, 2) and scores["border"] == second["first_stage"]["perceptual"][
        "mean"
    ]
    assert first["curve"]["n"] == 4 and first["flow"]["above"]["n"] == 2 and second["flow"] is None
    for name in ("pixels", "second"):
        assert name in (page.parent / "table.md").read_text()


def test_nothing_is_measured_twice(world: World, pixels: Path, tmp_path: Path) -> None:
    """What lies there is read, as long as model, pictures and coding are the same."""
    folders, models, source = [pixels, pixels], open_models([pixels, pixels]), open_source(str(world.pictures))
    study = RateDistortionStudy(coding=replace(FEW, flow=0))
    rows = study.measured(tmp_path, folders, models, source)
    assert [row.name for row in rows] == [str(pixels)] * 2, "runs of one name go by their folders"
    (file,) = (tmp_path / "curves").iterdir()
    write_json(file, {**read_json(file), "factor": 32})
    assert [row.found.factor for row in study.measured(tmp_path, folders, models, source)] == [32, 32]
    other = replace(study, coding=replace(study.coding, seed=1))
    (row,) = other.measured(tmp_path, folders[:1], models[:1], source)
    assert row.found.factor == 1 and row.found.curve != rows[0].found.curve
    few = open_source("embedded:fluent-people/val")
    assert study.measured(tmp_path, folders[:1], models[:1], few)[0].found.factor == 1


def test_runs_that_cannot_be_measured_are_refused_before_anything_is_written(
    world: World, pixels: Path, tmp_path: Path
) -> None:
    def refused(words: str, **changed: object) -> None:
        study = replace(RateDistortionStudy(runs=(str(pixels),), data=str(world.pictures), coding=FEW), **changed)
        with pytest.raises(UserError, match=words):
            study.run(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused("there is no nowhere", runs=("nowhere",))
    refused("holds a model of kind 'autoencoder'", runs=(str(world.autoencoder),))
    refused("there is no folder nowhere", data="nowhere")
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(next(world.pictures.rglob("*.png")), one)
    refused("at least two", data=str(one))

    larger = LatentDiffusion.load(pixels / "model")
    larger.side = 32
    larger.save(tmp_path / "larger")
    refused("32 pixels .* 16; rates and distances", runs=(str(pixels), str(tmp_path / "larger")))


def test_a_model_that_always_knew_its_wish_has_no_rate_without(world: World, tmp_path: Path) -> None:
    config = tiny_diffusion(world.pictures, "pixels", steps=1)
    told = {name: replace(c, drop=0.0) for name, c in config.conditioners.items()}
    train_diffusion(replace(config, conditioners=told, drop=0.0), tmp_path / "told")
    with pytest.raises(UserError, match=r"without dropping any wish.*drop=0\.1"):
        open_models([tmp_path / "told"])


def test_the_command_line_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "rate-distortion", "runs=[nowhere]"]) != 0
    assert "there is no nowhere" in capsys.readouterr().err


@pytest.mark.slow
def test_from_nothing_to_the_page(tmp_path: Path) -> None:
    """Its own trainings, of two steps each; most of the minute goes into the latents of all pictures."""
    page = RateDistortionStudy(steps=2, first_stage_steps=2, coding=FEW).run(tmp_path)
    names = [row["run"] for row in read_json(page.parent / "scores.json")["rows"]]
    assert names == ["pixels", "latents"]
    with pytest.raises(UserError, match="steps: was 2, now 3"):
        RateDistortionStudy(steps=3, first_stage_steps=2, coding=FEW).run(tmp_path)

"""A variance that the network says itself, from the config to pictures; and what a schedule must fit."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.system.conftest import World, tiny_diffusion

from calotype.config import resolve
from calotype.diffusion.curves import Linear
from calotype.diffusion.grids import UniformGrid
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.samplers import DDPM
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.variance import FixedSmall, LearnedRange
from calotype.errors import UserError
from calotype.files import commit_directory, read_json, write_json
from calotype.generation.generate import Plan, images
from calotype.jobs.train import train_diffusion
from calotype.model import LatentDiffusion
from calotype.runs import DiffusionRun


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learned") / "run"
    train_diffusion(replace(tiny_diffusion(world.pictures, str(world.autoencoder), 3), variance=LearnedRange(1.0)), out)
    return out


def test_the_bound_is_trained_and_logged(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(line["denoise/vlb"]) for line in lines)


def test_the_model_keeps_it_and_samples_by_it(run: Path) -> None:
    model = LatentDiffusion.load(run / "model")
    assert model.denoiser.variance == LearnedRange(1.0)
    assert model.denoiser.network.config.out_channels == 2 * model.autoencoder.channels  # type: ignore[union-attr]
    wishes = {"caption": ["a red circle"] * 2, "label": ["circles"] * 2}

    def sampled(variance: object, scale: float) -> torch.Tensor:
        sampler = DDPM(variance)  # type: ignore[arg-type]
        return images(model, wishes, Plan(sampler, UniformGrid(), ClassifierFree(scale), 4), n=2, seed=0)

    for scale in (1.0, 3.0):  # guidance keeps what the network says of the variance
        learned, fixed = sampled(LearnedRange(1.0), scale), sampled(FixedSmall(), scale)
        assert learned.isfinite().all() and not torch.equal(learned, fixed)


def test_a_folder_from_before_has_a_fixed_one(world: World, tmp_path: Path) -> None:
    """No learned variance was ever written without its name."""
    plain = read_json(world.diffusion / "model" / "config.json")
    assert plain["denoiser"].pop("variance") == {"type": "variance.fixed_small"}
    with commit_directory(tmp_path / "model") as folder:
        for file in (world.diffusion / "model").glob("*.*"):
            if file.name not in ("config.json", "manifest.json"):
                shutil.copy(file, folder)
        write_json(folder / "config.json", plain)
    assert LatentDiffusion.load(tmp_path / "model").denoiser.variance == FixedSmall()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective.time_sampler=curve", "objective.time_sampler.curve=laplace"], "give the times the same curve"),
        (
            ["objective.time_sampler=stratified", "objective.time_sampler.of=curve", "schedule.curve=linear"],
            "same curve",
        ),
        (["schedule.curve=linear", "objective.time_sampler=discrete", "objective.time_sampler.steps=50"], "steps=1000"),
        (["schedule.curve=linear", "variance=learned_range", "variance.steps=100"], "take variance.steps=1000"),
        (["objective.weighting=sigmoid", "schedule.curve=shifted"], "objective.weighting.curve"),
        (["variance=learned_range", "variance.weight=0"], "weight > 0"),
        (["preview.grid=leading"], "steps over the entries of a table"),
        (["preview.sampler=ddpm", "preview.sampler.variance=learned_range"], "take sampler.variance=fixed_small"),
        (["preview.sampler=plms", "preview.grid=uniform", "preview.steps=20"], "take a grid that begins at 200"),
        (["schedule.curve=linear", "preview.grid=uniform", "preview.steps=1001"], "take 1000 at most"),
    ],
)
def test_what_is_made_for_another_schedule_is_refused(world: World, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(tiny_diffusion(world.pictures, "pixels"), None, words)


def test_what_fits_the_schedule_is_taken() -> None:
    words = ["objective.time_sampler=discrete", "variance=learned_range"]
    assert resolve(DiffusionRun(schedule=Schedule(Linear())), None, words).variance == LearnedRange()

"""From a folder of pictures to developed pictures, tiny: what the whole promises."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.system.conftest import Run, World, tiny_autoencoder, tiny_diffusion
from tests.vgg_toys import random_weights

from calotype.autoencoder.latent_space import LatentSpace
from calotype.cli import main
from calotype.config import resolve
from calotype.data.folder import FolderSource
from calotype.data.loader import pictures
from calotype.diffusion.grids import UniformGrid
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.samplers import DDIM
from calotype.errors import UserError
from calotype.files import read_json, read_tensors
from calotype.generation.generate import Plan, generate, images
from calotype.generation.images import read_png
from calotype.jobs.asked import Asked
from calotype.jobs.reconstruct import reconstruct
from calotype.jobs.sample import sample
from calotype.jobs.train import train_autoencoder, train_diffusion
from calotype.losses.lpips import Lpips
from calotype.model import LatentDiffusion, load_autoencoder, model_folder
from calotype.training.trainer import Trainer

WISHES = {"caption": ["a red circle", "a blue square", "a green circle"], "label": ["circles", "squares", "circles"]}
PLAN = Plan(steps=3)


def test_runs_leave_what_they_promise(world: World) -> None:
    for run, picture in ((world.autoencoder, "reconstructions.png"), (world.diffusion, "samples.png")):
        for name in ("config.json", "metrics.jsonl", "report.html", picture, "model/manifest.json", "checkpoints"):
            assert (run / name).exists(), name
        assert "<script" not in (run / "report.html").read_text()
    assert list((world.autoencoder / "previews").iterdir())
    steps = [json.loads(line)["step"] for line in (world.diffusion / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_files_are_json_and_safetensors_only(world: World) -> None:
    for run in (world.autoencoder, world.diffusion):
        for folder in (run / "model", *(run / "checkpoints").iterdir()):
            assert {f.suffix for f in folder.iterdir()} <= {".json", ".safetensors"}


def test_latents_of_the_training_pictures_are_normalised(world: World) -> None:
    autoencoder = load_autoencoder(world.autoencoder / "model")
    moments = [autoencoder.moments(b["image"]) for b in pictures(FolderSource(world.pictures), 16)]
    mean, std = (torch.cat(part) for part in zip(*moments, strict=True))
    total = (mean.var((0, 2, 3)) + std.square().mean((0, 2, 3))).sqrt()
    assert (total - 1).abs().max() < 0.15  # a fifth of the 24 pictures was held out of the statistics


def test_save_and_load_give_identical_samples(world: World, tmp_path: Path) -> None:
    model = LatentDiffusion.load(world.diffusion / "model")
    model.save(tmp_path / "copy")
    again = LatentDiffusion.load(tmp_path / "copy")
    a, b = (images(m, WISHES, PLAN, n=3, seed=5) for m in (model, again))
    assert torch.equal(a, b) and a.shape == (3, 3, 16, 16)


def test_a_denoiser_is_not_saved_beside_another_autoencoder(world: World, tmp_path: Path) -> None:
    model = LatentDiffusion.load(world.diffusion / "model")
    assert model.space == LatentSpace.of(load_autoencoder(world.autoencoder / "model"))
    assert model.space == LatentDiffusion.load(world.diffusion / "model").space
    model.autoencoder.stats.std *= 1.01
    with pytest.raises(UserError, match="its weights or the statistics of its latents differ; put back"):
        model.save(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_a_seed_gives_the_same_picture_in_any_batch(world: World, batch: int) -> None:
    model = LatentDiffusion.load(world.diffusion / "model")
    whole = images(model, WISHES, PLAN, n=3, seed=5)
    parts = images(model, WISHES, Plan(steps=3, batch=batch), n=3, seed=5)
    assert (whole - parts).abs().max() < 1e-4  # far below one of 255 levels: kernels round differently by batch size
    assert not torch.allclose(whole, images(model, WISHES, PLAN, n=3, seed=6))


def test_sampling_shows_a_preview_at_every_step_and_fits_any_size(world: World) -> None:
    model = LatentDiffusion.load(world.diffusion / "model")
    updates = list(generate(model, {}, PLAN, n=1, seed=0, height=24, width=32))
    assert [u.step for u in updates] == [1, 2, 3] and [u.image is None for u in updates] == [True, True, False]
    assert updates[-1].image.shape == (1, 3, 24, 32)
    with pytest.raises(ValueError, match="width 33 is not a multiple"):
        next(generate(model, {}, PLAN, n=1, seed=0, width=33))


class Killed(Exception):
    """Stands for the machine going away."""


@pytest.mark.parametrize("at", [2, 4])
def test_interrupted_and_resumed_equals_uninterrupted(
    stage: Run, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(tmp_path / "whole", 2)
    advance = Trainer._advance

    def dies(self: Trainer, batch: object, step: int) -> object:
        if step == at:
            raise Killed
        return advance(self, batch, step)

    monkeypatch.setattr(Trainer, "_advance", dies)
    with pytest.raises(Killed):
        stage(tmp_path / "pieces", 2)
    monkeypatch.undo()
    stage(tmp_path / "pieces", 2)
    for file in sorted((tmp_path / "whole" / "model").glob("*.safetensors")):
        a, b = read_tensors(file), read_tensors(tmp_path / "pieces" / "model" / file.name)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), file.name
    losses = [
        [
            {k: v for k, v in json.loads(line).items() if k not in ("seconds", "images_per_second", "time")}
            for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        ]
        for run in ("whole", "pieces")
    ]
    assert losses[0] == losses[1]


def test_what_was_learned_from_captions_is_kept_when_a_run_goes_on(world: World, tmp_path: Path) -> None:
    """Word pieces keep their numbers though the folder's captions are others by now; classes must not change at all."""
    shutil.copytree(world.pictures, tmp_path / "pictures")
    config = tiny_diffusion(tmp_path / "pictures", str(world.autoencoder), steps=2)
    train_diffusion(config, tmp_path / "run")
    before = read_json(tmp_path / "run" / "model" / "assets.json")
    for text in (tmp_path / "pictures").rglob("*.txt"):
        text.write_text("zebras and xylophones " + text.read_text())
    longer = replace(config, trainer=replace(config.trainer, steps=4))
    train_diffusion(longer, tmp_path / "run")
    after = read_json(tmp_path / "run" / "model" / "assets.json")
    assert "zebras" not in before["caption.words"] and after == before
    train_diffusion(longer, tmp_path / "other")
    assert "zebras" in read_json(tmp_path / "other" / "model" / "assets.json")["caption.words"]
    (tmp_path / "pictures" / "circles").rename(tmp_path / "pictures" / "zircles")
    with pytest.raises(UserError, match=r"other inputs \(.*classes: was .*circles.*, now .*zircles"):
        train_diffusion(longer, tmp_path / "run")


def test_pixel_space_is_just_another_autoencoder(world: World, tmp_path: Path) -> None:
    train_diffusion(tiny_diffusion(world.pictures, "pixels", steps=2), tmp_path / "run")
    model = LatentDiffusion.load(tmp_path / "run" / "model")
    assert images(model, {}, PLAN, n=1, seed=0).shape == (1, 3, 16, 16)


def test_sample_writes_pictures_that_say_what_they_are(world: World, tmp_path: Path) -> None:
    def run(out: Path, batch: int) -> list[Path]:
        done = sample(
            world.diffusion,
            Asked(captions=["a red circle", "a blue square"]),
            n=3,
            plan=Plan(DDIM(), UniformGrid(), ClassifierFree(2.0), 2, batch),
            seed=7,
            out=out,
        )
        return list(done.pictures)

    first, second = run(tmp_path / "a.png", 3), run(tmp_path / "b.png", 1)
    assert len(first) == 3 and (tmp_path / "a.png").is_file()
    for one, other in zip(first, second, strict=True):
        difference = np.asarray(Image.open(one)).astype(int) - np.asarray(Image.open(other)).astype(int)
        assert abs(difference).max() <= 1
    note = read_png(first[1])
    assert note.generated and note.parameters.prompt == "a blue square" and note.parameters.settings["Seed"] == "7"
    assert note.record["sampling"]["sampler"] == {"type": "sampler.ddim", "eta": 0.0}


def test_reconstruct_takes_any_size(world: World, tmp_path: Path) -> None:
    Image.new("RGB", (37, 21), "orange").save(tmp_path / "odd.png")
    (written,) = reconstruct(world.autoencoder, [tmp_path / "odd.png"], tmp_path / "out")
    assert Image.open(written).size == (2 * 37 + 4, 21)


def test_evaluate_takes_runs_of_both_stages(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for run in (world.autoencoder, world.diffusion):
        out = tmp_path / run.name
        assert main(["evaluate", str(run), "--data", str(world.pictures), "--out", str(out)]) == 0
        told = "holds a diffusion model: its autoencoder is evaluated" in " ".join(capsys.readouterr().out.split())
        assert told == (run == world.diffusion)
        found.append(json.loads((out / "scores.json").read_text()))
    assert found[0]["reconstruction"] == found[1]["reconstruction"] and found[0]["latents"] == found[1]["latents"]
    assert found[0]["reconstruction"]["n"] == 24 and found[0]["reconstruction"]["side"] == [16, 16]
    assert all(abs(s - 1) < 0.15 for s in found[0]["latents"]["std"])  # a fifth was held out of the statistics


def test_lpips_can_be_the_perceptual_distance_of_a_run(world: World, tmp_path: Path) -> None:
    weights = random_weights(tmp_path / "vgg16.safetensors")
    words = ["perceptual=lpips", f"perceptual.weights={weights}"]
    config = resolve(tiny_autoencoder(world.pictures, steps=2), None, words)
    assert config.perceptual == Lpips(str(weights))
    train_autoencoder(config, tmp_path / "run")
    first, usual = (
        json.loads((run / "metrics.jsonl").read_text().splitlines()[0]) for run in (tmp_path / "run", world.autoencoder)
    )
    assert first["autoencoder/l1"] == usual["autoencoder/l1"], "the same pictures, come back from the same weights"
    assert first["autoencoder/perceptual"] != usual["autoencoder/perceptual"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sampler", "ddmi"], r"unknown sampler 'ddmi'; did you mean 'dd"),
        (["--grid", "karas"], r"unknown grid 'karas'; did you mean 'karras'"),
        (["--class", "circle"], r"unknown class 'circle'; did you mean 'circles'"),
        (["--grid", "trailing"], r"steps over the entries of a table"),
        (["steps=0"], r"steps must lie in 1 \.\.\. 10000"),
        (["sampler.etta=1"], r"unknown key in sampler 'etta'; did you mean 'eta'"),
        (["sampler.eta=-1", "--sampler", "ddim"], r"eta"),
        (["guidance.interval=[3,1]"], r"interval"),
        (["--sampler", "ddpm", "sampler.variance=learned_range"], r"variance"),
    ],
)
def test_sampling_mistakes_are_one_sentence(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    out = tmp_path / "x.png"
    assert main(["sample", str(world.diffusion), "-n", "1", "--steps", "2", "--out", str(out), *options]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said
    assert not list(tmp_path.iterdir())


def test_there_must_be_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "nowhere"]) == 2
    assert "there is no nowhere" in capsys.readouterr().err


def test_sampling_is_configured_like_training(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sampler.eta=1", "guidance.interval=[-2,5]", "--sampler", "ddim", "--steps", "2", "-n", "1", "--seed", "3"]
    out = tmp_path / "x.png"
    assert main(["sample", str(world.diffusion), *words, "--out", str(out)]) == 0
    sampling = read_png(out).record["sampling"]
    assert sampling["sampler"] == {"type": "sampler.ddim", "eta": 1.0}
    assert sampling["guidance"]["interval"] == [-2.0, 5.0]
    shown = capsys.readouterr().out
    assert "sampler.eta=1 'guidance.interval=[-2,5]' --steps 2 --sampler ddim -n 1 --seed 4" in " ".join(shown.split())
    assert main(["sample", "nowhere", *words, "--print-config"]) == 0
    assert "eta: 1.0" in capsys.readouterr().out


def test_damaged_models_are_refused(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(world.diffusion / "model", copy)
    file = copy / "denoiser.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"denoiser\.safetensors"):
        LatentDiffusion.load(copy)


def test_an_autoencoder_is_not_a_diffusion_model(world: World) -> None:
    with pytest.raises(UserError, match="kind 'autoencoder', but 'latent-diffusion' is needed"):
        LatentDiffusion.load(model_folder(world.autoencoder))
    assert read_json(world.autoencoder / "model" / "config.json")["kind"] == "autoencoder"
    assert load_autoencoder(model_folder(world.diffusion)).factor == 2


def test_plain_pictures_give_an_unconditional_model(world: World, tmp_path: Path) -> None:
    """The same config serves a folder without captions and classes."""
    folder = tmp_path / "plain"
    folder.mkdir()
    for file in world.pictures.rglob("*.png"):
        shutil.copy(file, folder / f"{file.parent.name}-{file.name}")
    train_diffusion(tiny_diffusion(folder, str(world.autoencoder), steps=2), tmp_path / "run")
    model = LatentDiffusion.load(tmp_path / "run" / "model")
    assert model.conditioner.reads == () and images(model, {}, PLAN, n=2, seed=0).shape == (2, 3, 16, 16)
    with pytest.raises(UserError, match="not trained with 'caption'; it takes no condition at all"):
        images(model, {"caption": ["a red circle"]}, PLAN, n=1, seed=0)


def test_wide_attention_is_warned_of(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = tiny_diffusion(world.pictures, "pixels", steps=1)
    network = replace(second.network, attention=(True, True))
    second = replace(second, data=replace(second.data, side=48), network=network)
    train_diffusion(second, tmp_path / "run")
    assert "network.attention=[false, true]" in capsys.readouterr().out

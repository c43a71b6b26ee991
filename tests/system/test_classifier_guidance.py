"""A classifier trained on a tiny world, and pictures that it pushes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.system.conftest import World, tiny_diffusion, tiny_trainer

from calotype.cli import main
from calotype.diffusion.classifier import Classifier
from calotype.diffusion.curves import Cosine
from calotype.diffusion.grids import UniformGrid
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.samplers import DDIM
from calotype.diffusion.schedule import Schedule
from calotype.errors import CorruptFile, UserError
from calotype.files import read_json, read_tensors
from calotype.generation.classifier import LatentClassifier
from calotype.generation.generate import Plan, generate
from calotype.generation.images import read_png
from calotype.jobs.asked import Asked
from calotype.jobs.guided import like
from calotype.jobs.sample import sample
from calotype.jobs.train import train_classifier, train_diffusion
from calotype.model import LatentDiffusion
from calotype.nn.noisy_classifier import NoisyClassifierConfig
from calotype.nn.unet import UNetConfig
from calotype.runs import ClassifierRun, DataConfig
from calotype.training.optim import OptimizerConfig

HALF = UNetConfig(channels=16, multipliers=(1, 2), blocks=1, attention=(False, True), head_width=16)


def tiny_classifier(world: World, steps: int = 4) -> ClassifierRun:
    return ClassifierRun(
        data=DataConfig(source=str(world.pictures), side=16, held_out=0.2),
        autoencoder=str(world.autoencoder),
        network=NoisyClassifierConfig(half=HALF),
        optimizer=OptimizerConfig(lr=1e-3),
        trainer=tiny_trainer(steps),
    )


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("classifier") / "run"
    train_classifier(tiny_classifier(world), run)
    return run


@pytest.fixture
def developed(world: World, tmp_path: Path) -> Callable[..., torch.Tensor]:
    def run(name: str = "a", model: Path | None = None, scale: float = 2.0, batch: int = 2, **extra: object) -> Path:
        plan = Plan(DDIM(), UniformGrid(), ClassifierFree(scale), 3, batch)
        asked = Asked(**({"classes": ["squares"]} | extra))  # type: ignore[arg-type]
        return sample(model or world.diffusion, asked, n=2, plan=plan, seed=7, out=tmp_path / f"{name}.png").grid

    return run


def test_the_run_leaves_what_it_promises(trained: Path) -> None:
    for name in ("config.json", "metrics.jsonl", "report.html", "model/manifest.json", "checkpoints"):
        assert (trained / name).exists(), name
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["classify/accuracy"] <= 1 for line in lines)
    assert any(key.startswith("classify/accuracy_t_") for line in lines for key in line)
    accuracy = read_json(trained / "model" / "config.json")["notes"]["accuracy"]
    assert [t for t, _ in accuracy] == sorted(t for t, _ in accuracy) and all(0 <= a <= 1 for _, a in accuracy)
    assert "Accuracy by noise level" in (trained / "report.html").read_text()


def test_save_and_load_give_the_same_probabilities(trained: Path, tmp_path: Path) -> None:
    classifier = LatentClassifier.load(trained / "model")
    assert classifier.classes == ("circles", "squares")
    classifier.save(tmp_path / "copy")
    again = LatentClassifier.load(tmp_path / "copy")
    x, t = torch.randn(2, 2, 8, 8), torch.tensor([0.2, 0.7])
    assert torch.equal(classifier.classifier(x, t), again.classifier(x, t))
    assert again.space == classifier.space and again.notes == classifier.notes


def test_resumed_equals_uninterrupted(world: World, trained: Path, tmp_path: Path) -> None:
    config = tiny_classifier(world)
    train_classifier(replace(config, trainer=replace(config.trainer, max_seconds=1e-9)), tmp_path / "run")
    assert len([*(tmp_path / "run" / "checkpoints").iterdir()]) >= 1
    train_classifier(config, tmp_path / "run")
    a, b = (read_tensors(run / "model" / "classifier.safetensors") for run in (trained, tmp_path / "run"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_classifier_pushes_latents_towards_its_class(world: World, trained: Path) -> None:
    """One that finds squares where latents are large on average: the harder it pushes, the larger they become."""
    model, plan = LatentDiffusion.load(world.diffusion / "model"), Plan(guidance=ClassifierFree(1.0), steps=8)

    def large(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        alpha, _ = model.denoiser.schedule.at(time / 1000)  # the more noise, the less it says
        mean = alpha * x.flatten(1).mean(1)
        return torch.stack([-5 * mean, 5 * mean], 1)

    trusted = LatentClassifier.load(trained / "model")
    classifier = replace(trusted, classifier=Classifier(large, model.denoiser.schedule))
    means = []
    for scale in (-4.0, 0.0, 1.0, 4.0):
        *_, last = generate(model, {}, plan, n=3, seed=5, steer=classifier.steer(["squares"] * 3, scale))
        means.append(float(last.x_0.mean()))
    assert all(a < b for a, b in pairwise(means)), means


def test_sample_with_a_classifier(world: World, trained: Path, developed: Callable[..., Path]) -> None:
    plain, guided = developed("plain"), developed("guided", classifier=trained, classifier_scale=5.0)
    assert plain.read_bytes() != guided.read_bytes()
    note = read_png(guided.with_suffix("") / "0000.png")
    assert note.record["classifier_scale"] == 5.0 and note.parameters.settings["Classifier scale"] == "5"
    one = developed("one", classifier=trained, classifier_scale=5.0, batch=1)
    a, b = (np.asarray(Image.open(p).convert("L")).astype(int) for p in (guided, one))
    assert abs(a - b).max() <= 1, "in any batch the same"


def test_a_model_without_classes_is_guided_towards_them(
    world: World, trained: Path, tmp_path: Path, developed: Callable[..., Path]
) -> None:
    config = tiny_diffusion(world.pictures, str(world.autoencoder), steps=2)
    train_diffusion(replace(config, conditioners={}), tmp_path / "run")
    assert developed("a", tmp_path / "run", classifier=trained).exists()
    with pytest.raises(UserError, match="not trained with --class"):
        developed("b", tmp_path / "run")


def test_what_a_classifier_is_for_is_read_from_the_run(world: World) -> None:
    config = ClassifierRun()
    found = like(config, world.diffusion)
    second = tiny_diffusion(world.pictures, str(world.autoencoder))
    assert (found.autoencoder, found.data.side) == (str(world.autoencoder), 16)
    assert (found.schedule, found.time_sampler) == (second.schedule, second.objective.time_sampler)
    folder = like(config, world.diffusion / "model")
    assert (folder.data.side, folder.schedule) == (16, second.schedule)
    assert folder.autoencoder == str(world.diffusion / "model")


def test_the_command_line_trains_one(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["network.half.channels=8", "network.half.head_width=8", "trainer.steps=1", "trainer.batch_size=4"]
    out = tmp_path / "run"
    line = ["train", "classifier", "--data", str(world.pictures), "--for", str(world.diffusion), "--out", str(out)]
    assert main([*line, *words]) == 0
    LatentClassifier.load(out / "model").check(LatentDiffusion.load(world.diffusion / "model"), "x")
    assert f"--classifier {out}" in " ".join(capsys.readouterr().out.split())


def test_mistakes_are_one_sentence(world: World, trained: Path, tmp_path: Path, developed: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="none was asked for; add --class NAME"):
        developed(classifier=trained, classes=[])
    with pytest.raises(UserError, match="must be finite"):
        developed(classifier=trained, classifier_scale=float("nan"))
    with pytest.raises(UserError, match="of kind 'autoencoder', but 'noisy-classifier' is needed"):
        developed(classifier=world.autoencoder)
    with pytest.raises(UserError, match="there is no nowhere"):
        developed(classifier=Path("nowhere"))
    with pytest.raises(UserError, match="unknown class"):
        developed(classifier=trained, classes=["square"])
    with pytest.raises(UserError, match="there is no nowhere"):
        like(ClassifierRun(), Path("nowhere"))
    with pytest.raises(UserError, match="of kind 'autoencoder', but 'latent-diffusion' is needed"):
        like(ClassifierRun(), world.autoencoder)
    assert not list(tmp_path.iterdir())


def test_a_classifier_of_other_classes_latents_or_noise_is_refused(world: World, trained: Path) -> None:
    model, classifier = LatentDiffusion.load(world.diffusion / "model"), LatentClassifier.load(trained / "model")
    classifier.check(model, "C")
    with pytest.raises(UserError, match="unknown class of the classifier 'cats'"):
        classifier.steer(["cats"], 1.0)
    with pytest.raises(
        UserError, match=r"the classifier C was trained on the latents of autoencoder \w+, the model mak"
    ):
        replace(classifier, space=replace(classifier.space, autoencoder="another")).check(model, "C")
    classifier.classifier.schedule = Schedule(Cosine(-10.0, 10.0))
    with pytest.raises(UserError, match=r"was trained with Schedule\(.*, the model with Schedule\(.*; train one for"):
        classifier.check(model, "C")


def test_a_model_that_knows_no_null_is_not_guided_by_it(
    world: World, tmp_path: Path, developed: Callable[..., Path]
) -> None:
    config = tiny_diffusion(world.pictures, str(world.autoencoder), steps=1)
    kept = {"class": replace(config.conditioners["class"], drop=0.0)}
    train_diffusion(replace(config, conditioners=kept, drop=0.0), tmp_path / "run")
    with pytest.raises(UserError, match="guidance contrasts a wish with none, but this model was trained without"):
        developed("a", tmp_path / "run")
    assert developed("b", tmp_path / "run", scale=1.0).exists()


def test_pictures_without_classes_are_refused(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for file in world.pictures.rglob("*.png"):
        shutil.copy(file, folder / f"{file.parent.name}-{file.name}")
    config = tiny_classifier(world)
    with pytest.raises(UserError, match="has 0 classes, a classifier needs at least two"):
        train_classifier(replace(config, data=replace(config.data, source=str(folder))), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_damaged_classifiers_are_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    file = tmp_path / "model" / "classifier.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises((UserError, CorruptFile), match=r"classifier\.safetensors"):
        LatentClassifier.load(tmp_path / "model")

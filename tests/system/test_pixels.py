"""Diffusion on pixels is diffusion: every network, conditioner and sampler, from the command line to pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.system.conftest import World, tiny_diffusion, tiny_trainer

from calotype.autoencoder.base import PixelSpace
from calotype.cli import main
from calotype.conditioning.conditioner import conditioners
from calotype.diffusion.distance import MultiScale
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.samplers import samplers
from calotype.errors import UserError
from calotype.files import read_json
from calotype.generation.generate import Plan, images
from calotype.generation.images import read_png
from calotype.jobs.train import train_diffusion
from calotype.model import LatentDiffusion
from calotype.nn.network import Network, NetworkConfig, networks
from calotype.nn.stem import Patches, Wavelet
from calotype.nn.unet import UNetConfig
from calotype.nn.uvit import UViT, UViTConfig
from calotype.runs import DiffusionRun

TINY = [
    "data.side=16",
    "trainer.steps=3",
    "trainer.batch_size=4",
    "trainer.precision=fp32",
    "trainer.save_every=2",
    "trainer.preview_every=2",
    "trainer.tensorboard=false",
    "trainer.measure=false",
    "network.channels=8",
    "network.multipliers=[1,2]",
    "network.blocks=[1,1]",
    "network.head_width=8",
    "network.stem=wavelet",
    "network.stem.levels=1",
    "conditioners.caption.width=16",
    "conditioners.caption.depth=1",
    "conditioners.caption.heads=2",
    "conditioners.class.width=16",
    "preview.steps=2",
]
WISHES = {"caption": ["a red circle", "a blue square"], "label": ["circles", "squares"]}


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe on 16 x 16 pixels, by the command line, with both conditioners."""
    out = tmp_path_factory.mktemp("pixels") / "run"
    options = ["--autoencoder", "pixels", "--recipe", "pixel-emoji", "--data", str(world.pictures), "--out", str(out)]
    assert main(["train", "diffusion", *options, *TINY]) == 0
    return out


def test_the_recipe_trains_on_pixels(run: Path) -> None:
    model = LatentDiffusion.load(run / "model")
    assert isinstance(model.autoencoder, PixelSpace) and isinstance(model.denoiser.network, UViT)
    taking_part = {conditioners.name_of(config) for config in model.conditioner.configs.values()}
    assert taking_part == {"class_label", "text"}, "every conditioner that the pictures have wishes for"
    assert read_json(run / "model" / "config.json")["denoiser"]["network"]["type"] == "network.uvit"
    assert (run / "report.html").exists() and (run / "samples.png").exists()


@pytest.mark.parametrize("name", [*samplers])
def test_every_sampler_makes_pictures_of_it(run: Path, name: str) -> None:
    model = LatentDiffusion.load(run / "model")
    plan = Plan(sampler=samplers.create(name), guidance=ClassifierFree(2.0), steps=5)
    pictures = images(model, WISHES, plan, n=2, seed=1)
    assert pictures.shape == (2, 3, 16, 16) and pictures.isfinite().all()
    assert torch.equal(pictures, images(model, WISHES, plan, n=2, seed=1))
    assert not torch.equal(pictures, images(model, {}, plan, n=2, seed=1)), "wishes matter"


def test_the_command_line_samples_it(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    assert main(["sample", str(run), "--caption", "a red circle", "--steps", "2", "--out", str(out)]) == 0
    assert read_png(out).generated
    with Image.open(next((tmp_path / "x").glob("*.png"))) as picture:
        assert picture.size == (16, 16)


NETWORKS: dict[str, NetworkConfig] = {
    "unet": UNetConfig(channels=8, multipliers=(1, 2), blocks=(1, 2), attention=(False, True), head_width=8),
    "uvit": UViTConfig(channels=8, multipliers=(1, 2), blocks=(1, 1), head_width=8),
}


def second(world: World, network: NetworkConfig, autoencoder: str = "pixels") -> DiffusionRun:
    config = tiny_diffusion(world.pictures, autoencoder)
    return replace(config, network=network, trainer=replace(tiny_trainer(2), precision="bf16"))


def test_every_network_is_tested_here() -> None:
    assert {*NETWORKS} == {*networks}


@pytest.mark.parametrize("autoencoder", ["pixels", "compressed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns_pixels_and_latents_and_comes_back(
    world: World, tmp_path: Path, name: str, autoencoder: str
) -> None:
    """Saved, loaded and asked again: the same answer. In bfloat16 as by default, with the multi-scale loss."""
    where = "pixels" if autoencoder == "pixels" else str(world.autoencoder)
    config = second(world, replace(NETWORKS[name], stem=Patches(2), dropout=0.1, dropout_from=4), where)
    config = replace(config, objective=replace(config.objective, distance=MultiScale(8)))
    train_diffusion(config, tmp_path / "run")
    model = LatentDiffusion.load(tmp_path / "run" / "model")
    network = model.denoiser.network
    assert isinstance(network, Network) and network.config.stem == Patches(2)
    pictures = images(model, {}, Plan(steps=2), n=1, seed=0)
    assert pictures.shape == (1, 3, 16, 16)
    model.save(tmp_path / "copy")
    assert torch.equal(pictures, images(LatentDiffusion.load(tmp_path / "copy"), {}, Plan(steps=2), n=1, seed=0))


def test_sizes_are_refused_before_there_is_a_run(world: World, tmp_path: Path) -> None:
    deep = replace(NETWORKS["uvit"], multipliers=(1, 2, 2, 2), blocks=(1, 1, 1, 1), stem=Wavelet(2))
    with pytest.raises(UserError, match=r"latents of 16 x 16.*1/32; take data\.side=32"):
        train_diffusion(second(world, deep), tmp_path / "run")
    config = second(world, NETWORKS["unet"])
    config = replace(config, objective=replace(config.objective, distance=MultiScale()))
    with pytest.raises(UserError, match=r"16 x 16 does not do.*objective\.distance\.smallest=16"):
        train_diffusion(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wide_attention_is_warned_of(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = second(world, replace(NETWORKS["uvit"], multipliers=(1,), blocks=(1,), stem=Patches(2)))
    config = replace(config, data=replace(config.data, side=68), trainer=tiny_trainer(1))
    train_diffusion(config, tmp_path / "run")
    assert "network.multipliers=[1,1] network.blocks=[1,1]" in capsys.readouterr().out.replace("\n", " ")

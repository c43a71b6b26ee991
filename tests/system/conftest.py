"""A tiny world: a folder of drawn pictures, and the smallest run of both stages on it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from calotype.autoencoder.bottleneck.vector_quantized import MovingAverage, VectorQuantizedConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.conditioning.class_label import ClassLabelConfig
from calotype.conditioning.text import TextConfig
from calotype.generation.generate import Plan
from calotype.jobs.train import train_autoencoder, train_diffusion
from calotype.nn.discriminator import PatchDiscriminatorConfig
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.nn.unet import UNetConfig
from calotype.runs import AutoencoderRun, DataConfig, DiffusionRun
from calotype.tasks.onset import AtFraction
from calotype.tasks.reconstruct import ReconstructionLoss
from calotype.training.optim import OptimizerConfig
from calotype.training.trainer import TrainerConfig

COLOURS = ("red", "green", "blue")


def draw(folder: Path) -> Path:
    """24 pictures in two class folders, every one captioned; sizes and modes mixed."""
    for k in range(24):
        shape, colour = ("circle", "square")[k % 2], COLOURS[k % 3]
        mode = ("RGB", "RGBA", "P", "L")[k % 4]
        image = Image.new("RGB", (40 + k, 36), "white")
        pen = ImageDraw.Draw(image)
        (pen.ellipse if shape == "circle" else pen.rectangle)((6 + k % 5, 6, 28, 28), fill=colour)
        path = folder / f"{shape}s" / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.convert(mode).save(path)
        path.with_suffix(".txt").write_text(f"a {colour} {shape}")
    return folder


def tiny_trainer(steps: int) -> TrainerConfig:
    return TrainerConfig(
        steps=steps,
        batch_size=4,
        precision="fp32",
        ema_decay=0.9,
        log_every=1,
        save_every=3,
        preview_every=4,
        tensorboard=False,
        measure=False,
    )


def tiny_autoencoder(folder: Path, steps: int = 6) -> AutoencoderRun:
    return AutoencoderRun(
        data=DataConfig(source=str(folder), side=16, held_out=0.2),
        autoencoder=LatentAutoencoderConfig(
            channels=2, network=EncoderDecoderConfig(channels=8, multipliers=(1, 2), blocks=1, z_channels=2)
        ),
        discriminator=PatchDiscriminatorConfig(channels=4, layers=1),
        loss=ReconstructionLoss(start=AtFraction(0.3), warmup=0.2),
        optimizer=OptimizerConfig(lr=1e-3),
        critic=OptimizerConfig(lr=1e-3),
        trainer=tiny_trainer(steps),
    )


def tiny_diffusion(folder: Path, autoencoder: str, steps: int = 6) -> DiffusionRun:
    return DiffusionRun(
        data=DataConfig(source=str(folder), side=16, held_out=0.2),
        autoencoder=autoencoder,
        conditioners={
            "caption": TextConfig(width=16, depth=1, heads=2, length=8, vocabulary=300, drop=0.1),
            "class": ClassLabelConfig(width=16, drop=0.1),
        },
        network=UNetConfig(channels=16, multipliers=(1, 2), blocks=1, attention=(False, True), head_width=16),
        optimizer=OptimizerConfig(lr=1e-3, warmup_steps=2),
        trainer=tiny_trainer(steps),
        preview=Plan(steps=2),
    )


@dataclass(frozen=True)
class World:
    """The pictures, and both finished runs."""

    pictures: Path
    autoencoder: Path
    diffusion: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    pictures = draw(root / "pictures")
    train_autoencoder(tiny_autoencoder(pictures), root / "first")
    train_diffusion(tiny_diffusion(pictures, str(root / "first")), root / "second")
    return World(pictures, root / "first", root / "second")


Run = Callable[[Path, int], object]


QUANTIZED = VectorQuantizedConfig(size=32, learning=MovingAverage(), revive=0.5)
"""A codebook that keeps counts, means and random choices outside of gradients: all of it must survive a stop."""


@pytest.fixture(params=["autoencoder", "quantized", "diffusion"])
def stage(request: pytest.FixtureRequest, world: World) -> Run:
    """(run directory, save_every) -> the stage trained there."""

    def train(out: Path, save_every: int) -> object:
        if request.param != "diffusion":
            first = tiny_autoencoder(world.pictures)
            if request.param == "quantized":
                first = replace(first, autoencoder=replace(first.autoencoder, bottleneck=QUANTIZED))
            return train_autoencoder(replace(first, trainer=replace(first.trainer, save_every=save_every)), out)
        second = tiny_diffusion(world.pictures, str(world.autoencoder))
        return train_diffusion(replace(second, trainer=replace(second.trainer, save_every=save_every)), out)

    return train

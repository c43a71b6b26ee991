"""Statistics of latents: measured on the right pictures, once, and never again for the same weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.system.conftest import draw, tiny_autoencoder
from torch import Tensor

from calotype.autoencoder.latent import LatentAutoencoder
from calotype.autoencoder.statistics import FirstBatch, Global, PerChannel, Statistics
from calotype.data.folder import FolderSource
from calotype.data.loader import Loader, pictures
from calotype.data.view import Augment
from calotype.files import read_tensors
from calotype.jobs.latents import normalise_latents
from calotype.jobs.train import train_autoencoder
from calotype.model import load_autoencoder, save_autoencoder
from calotype.rng import Draws
from calotype.runs import AutoencoderRun


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FolderSource:
    return FolderSource(draw(tmp_path_factory.mktemp("latents")))


def config_of(source: FolderSource, rule: Statistics) -> AutoencoderRun:
    return replace(tiny_autoencoder(source.path), statistics=rule)


def fresh(config: AutoencoderRun, spread: float = 4.0) -> LatentAutoencoder:
    """Untrained, with posteriors as wide as their means, whose samples matter."""
    torch.manual_seed(0)
    autoencoder = config.autoencoder.build()
    with torch.no_grad():
        autoencoder.quant_conv.weight[:2] *= spread
        autoencoder.quant_conv.bias.copy_(torch.tensor([5.0, -3.0, 0.0, 1.0]))
    return autoencoder


@torch.no_grad()
def samples(autoencoder: LatentAutoencoder, source: FolderSource, copies: int) -> Tensor:
    """Normalised samples (n, C, h, w) of the posteriors of all pictures, each several times."""
    g = torch.Generator().manual_seed(1)
    image = torch.cat([batch["image"] for batch in pictures(source, 16)])
    mean, std = autoencoder.moments(image)
    return torch.cat([mean + std * torch.randn(mean.shape, generator=g) for _ in range(copies)])


@pytest.mark.parametrize("rule", [PerChannel(), Global()], ids=repr)
def test_samples_of_the_measured_pictures_have_unit_variance(
    rule: Statistics, source: FolderSource, tmp_path: Path
) -> None:
    config = config_of(source, rule)
    autoencoder = fresh(config)
    before = samples(autoencoder, source, 1)
    normalise_latents(autoencoder, source, config, tmp_path / "none")
    z = samples(autoencoder, source, 20)
    assert abs(float(before.std()) - 1) > 0.5  # there was something to do
    assert abs(float(z.std()) - 1) < 0.02 and abs(float(z.mean())) < 0.02
    if rule == PerChannel():
        assert (z.std((0, 2, 3)) - 1).abs().max() < 0.02


def test_the_first_batch_is_the_one_that_training_begins_with(source: FolderSource, tmp_path: Path) -> None:
    config = config_of(source, FirstBatch(6))
    autoencoder = fresh(config)
    seed = config.trainer.seed
    batch = next(Loader(source, 16, 6, seed, Augment(config.data.crop, config.data.flip)).batches())
    with torch.no_grad():
        mu, s = autoencoder.raw_moments(batch["image"])
    z = mu + s * Draws.of(seed, 0, batch).normal("statistics", mu)
    normalise_latents(autoencoder, source, config, tmp_path / "none")
    assert not autoencoder.stats.mean.any()
    torch.testing.assert_close(autoencoder.stats.std, z.flatten().std().repeat(2))


def test_the_same_weights_keep_their_statistics(source: FolderSource, tmp_path: Path) -> None:
    """Other pictures, the same weights: bit for bit the statistics of before; other weights: new ones."""
    config, folder = config_of(source, PerChannel()), tmp_path / "model"
    autoencoder = fresh(config)
    normalise_latents(autoencoder, source, config, folder)
    mean, std = autoencoder.stats.mean.clone(), autoencoder.stats.std.clone()
    save_autoencoder(autoencoder, folder, 16, {})
    shutil.copytree(source.path / "circles", tmp_path / "few" / "circles")
    few = FolderSource(tmp_path / "few")

    again = fresh(config)
    normalise_latents(again, few, config, folder)
    assert torch.equal(again.stats.mean, mean) and torch.equal(again.stats.std, std)

    def differs(other: LatentAutoencoder, folder: Path) -> bool:
        normalise_latents(other, few, config, folder)
        return not torch.equal(other.stats.mean, mean) and not torch.equal(other.stats.std, std)

    assert differs(fresh(config), tmp_path / "none")  # what measuring again would have given
    trained = fresh(config)
    with torch.no_grad():
        trained.decoder.conv_out.bias += 1e-6
    assert differs(trained, folder)
    (folder / "autoencoder.safetensors").write_bytes(b"damaged")
    assert differs(fresh(config), folder)


def test_a_finished_run_does_not_measure_again(source: FolderSource, tmp_path: Path) -> None:
    """The command run again on a folder that has lost pictures meanwhile: the autoencoder stays the same to the bit."""
    data = tmp_path / "pictures"
    shutil.copytree(source.path, data)
    config = tiny_autoencoder(data, steps=2)
    train_autoencoder(config, tmp_path / "run")
    before = read_tensors(tmp_path / "run" / "model" / "autoencoder.safetensors")
    assert float(before["stats.std"].min()) != 1.0
    for file in sorted(data.rglob("*0.*")):
        file.unlink()
    train_autoencoder(config, tmp_path / "run")
    after = read_tensors(tmp_path / "run" / "model" / "autoencoder.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert load_autoencoder(tmp_path / "run" / "model").channels == 2

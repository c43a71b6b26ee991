"""What the first stage promises, shown by real trainings: minutes each, so all of it is slow.

pytest -m slow tests/system/test_first_stage.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from calotype.autoencoder.bottleneck.vector_quantized import ByGradient, CodebookLearning, MovingAverage
from calotype.autoencoder.bottleneck.vector_quantized import VectorQuantizedConfig as VQ
from calotype.autoencoder.latent import LatentAutoencoder
from calotype.data.folder import open_source
from calotype.evaluation.runner import ReconstructionScores, score_reconstruction
from calotype.files import load_state, read_tensors
from calotype.jobs.evaluate import Evaluation, evaluate
from calotype.jobs.report import in_pairs, reconstructions
from calotype.jobs.train import train_autoencoder
from calotype.model import load_autoencoder
from calotype.recipes import get
from calotype.runs import AutoencoderRun
from calotype.tasks.onset import AtFraction

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = 800


def recipe(source: str, steps: int, **trainer: object) -> AutoencoderRun:
    """The default recipe on other pictures, for fewer steps; nothing else is changed."""
    run: AutoencoderRun = get(None, "autoencoder").build()
    settings = replace(run.trainer, steps=steps, tensorboard=False, measure=False, preview_every=0, **trainer)
    return replace(run, data=replace(run.data, source=source, held_out=0.0), trainer=settings)


def averaged(run: AutoencoderRun, out: Path, step: int) -> LatentAutoencoder:
    """The averaged weights that a checkpoint holds."""
    folder = out / "checkpoints" / f"step-{step:08d}"
    autoencoder = run.autoencoder.build()
    side = nn.ModuleDict({"autoencoder": autoencoder})
    stored = read_tensors(folder / "weights.safetensors") | read_tensors(folder / "ema.safetensors")
    prefix = "autoencoder/"
    own = {k[len(prefix) :]: v for k, v in stored.items() if k.startswith(f"{prefix}autoencoder.")}
    load_state(side, own, str(folder))
    return autoencoder.eval()


def measured(autoencoder: LatentAutoencoder, source: str) -> ReconstructionScores:
    return score_reconstruction(in_pairs(*reconstructions(autoencoder, open_source(source), 64)))


@pytest.mark.parametrize("name", ["fluent", "photo-crops", "fashion"])
def test_the_discriminator_improves_what_it_judges(tmp_path: Path, name: str) -> None:
    """Emoji, photographs, grey product pictures, one recipe: after the discriminator has begun the perceptual distance
    of held-out pictures falls, and PSNR falls by less than a decibel."""
    run = recipe(f"embedded:{name}/train", STEPS)
    assert isinstance(run.loss.start, AtFraction)
    begins = round(run.loss.start.fraction * STEPS)
    run = replace(run, trainer=replace(run.trainer, save_every=begins))
    train_autoencoder(run, tmp_path)
    before, after = (measured(averaged(run, tmp_path, step), f"embedded:{name}/val") for step in (begins, STEPS))
    told = (
        f"{name}: perceptual {before.perceptual.mean:.4f} -> {after.perceptual.mean:.4f}, PSNR {before.psnr.mean:.2f} "
        f"-> {after.psnr.mean:.2f} dB, R-FD {before.frechet:.1f} -> {after.frechet:.1f}, N = {after.n}"
    )
    print(told)
    assert after.perceptual.mean < before.perceptual.mean, told
    assert after.psnr.mean > before.psnr.mean - 1.0, told


@pytest.mark.parametrize("learning", [ByGradient(), MovingAverage()])
def test_a_short_run_uses_nine_codes_of_ten(tmp_path: Path, learning: CodebookLearning) -> None:
    """512 codes, 300 steps on photographs; counted over held-out pictures."""
    run = recipe("embedded:photo-crops/train", 300)
    codes = VQ(size=512, learning=learning, revive=0.1)
    network = replace(run.autoencoder.network, z_channels=4)
    run = replace(run, autoencoder=replace(run.autoencoder, channels=4, network=network, bottleneck=codes))
    train_autoencoder(run, tmp_path)
    codebook = evaluate(tmp_path, "embedded:photo-crops/val").latents.codebook
    assert codebook is not None and codebook.size == 512
    told = f"{codebook.used} of 512 codes, perplexity {codebook.perplexity:.0f}, at {codebook.vectors:,} places"
    print(told)
    assert codebook.used > 0.9 * 512, told


def test_latents_of_pictures_never_seen_have_unit_variance(tmp_path: Path) -> None:
    """Statistics are those of the training pictures; held back is every tenth, so both parts are alike."""
    train_autoencoder(recipe("embedded:fashion/train", 200), tmp_path)
    found: Evaluation = evaluate(tmp_path, "embedded:fashion/val")
    std = torch.tensor(found.latents.std)
    print("std of held-back latents per channel:", [f"{s:.3f}" for s in std.tolist()], f"N = {len(found.psnr)}")
    assert (std - 1).abs().max() <= 0.02, std
    assert isinstance(load_autoencoder(tmp_path / "model"), LatentAutoencoder)

"""From a run's config to a trained model in a run directory.

Running the same command again resumes; a finished run only writes its model and report again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.autoencoder.base import Autoencoder, PixelSpace
from calotype.autoencoder.latent import LatentAutoencoder
from calotype.conditioning.conditioner import Conditioners
from calotype.data.latent_cache import LatentCache, LatentLoader
from calotype.data.loader import Augment, Loader
from calotype.data.source import Source, open_source
from calotype.diffusion.denoiser import Denoiser
from calotype.errors import UserError
from calotype.generation.images import grid, to_pil
from calotype.jobs.report import autoencoder_report, diffusion_report
from calotype.losses.perceptual import Perceptual
from calotype.model import LatentDiffusion, load_autoencoder, model_folder, save_autoencoder, weights_hash
from calotype.registry import to_plain
from calotype.runs import AutoencoderRun, DataConfig, DiffusionRun
from calotype.runtime import autocast, best_device
from calotype.tasks.denoise import Denoise
from calotype.tasks.reconstruct import Reconstruct
from calotype.training.run import RunDirectory
from calotype.training.trainer import Trainer, TrainerConfig, TrainResult
from calotype.types import Batch


@dataclass(frozen=True)
class Trained:
    """What a training job leaves behind."""

    run: Path
    result: TrainResult


def train_autoencoder(config: AutoencoderRun, out: Path) -> Trained:
    """Train the first stage and write RUN/model, RUN/reconstructions.png, RUN/report.html.

    Raises:
        UserError: data that cannot be read, a side that does not fit the factor, a run of another config, ...
    """
    config.autoencoder.check(config.data.side)
    with RunDirectory(out, to_plain(config)) as run:
        source = open_source(config.data.source)
        loader = _loader(source, config.data, config.trainer)
        torch.manual_seed(config.trainer.seed)
        autoencoder = config.autoencoder.build()
        task = Reconstruct(autoencoder, config.discriminator.build(), Perceptual(), config.loss)
        optimizers = {"autoencoder": config.optimizer, "discriminator": config.critic}
        trainer = Trainer(
            task,
            optimizers,
            loader.batches,
            run,
            config.trainer,
            save_preview=_save_pictures,
            preview_batch=_held_back(source, config.data),
        )
        result = trainer.fit()
        with trainer.averaged():
            measure_latents(autoencoder, source, config.data, config.trainer.precision)
            notes = _notes(source, result) | {"data": config.data.source}
            save_autoencoder(autoencoder, run.model, config.data.side, notes)
            autoencoder_report(run, config, source, autoencoder, result)
    return Trained(out, result)


def train_diffusion(config: DiffusionRun, out: Path) -> Trained:
    """Cache latents, train the second stage, write RUN/model, RUN/samples.png, RUN/report.html.

    Raises:
        UserError: data without the wishes that the recipe conditions on, no such autoencoder, ...
    """
    autoencoder = _autoencoder(config.autoencoder)
    autoencoder.latent_shape(config.data.side, config.data.side)
    with RunDirectory(out, to_plain(config)) as run:
        source = open_source(config.data.source)
        torch.manual_seed(config.trainer.seed)
        conditioner = Conditioners.fit(config.conditioners, source, config.drop)
        denoiser = build_denoiser(config, autoencoder, conditioner)
        model = LatentDiffusion(autoencoder, denoiser, conditioner, config.data.side)
        task = Denoise(model, config.objective, config.preview)
        batches = latent_batches(source, config.data, config.trainer, autoencoder, run.path / "latents")
        trainer = Trainer(
            task, {"denoise": config.optimizer}, batches, run, config.trainer, save_preview=_save_pictures
        )
        result = trainer.fit()
        with trainer.averaged():
            model.notes = _notes(source, result) | {
                "data": config.data.source,
                "autoencoder": weights_hash(autoencoder),
                "captions": _examples(source),
                "classes": list(source.classes),
            }
            model.save(run.model)
            diffusion_report(run, config, source, model, result)
    return Trained(out, result)


def build_denoiser(config: DiffusionRun, autoencoder: Autoencoder, conditioner: Conditioners) -> Denoiser:
    """The denoiser whose network fits the latents and the conditions."""
    routes = conditioner.routes()
    network = replace(
        config.network,
        in_channels=autoencoder.channels + (routes.spatial or 0),
        out_channels=autoencoder.channels,
        context_width=routes.tokens,
        vector_width=routes.vector,
    )
    return Denoiser(network.build(), config.schedule, config.parameterization)


def measure_latents(autoencoder: LatentAutoencoder, source: Source, data: DataConfig, precision: str) -> None:
    """Set the statistics of the latents from every picture of the source."""
    device = next(autoencoder.parameters()).device

    def posteriors() -> Iterator[tuple[Tensor, Tensor]]:
        with torch.no_grad(), autocast(precision, device):
            for images in pictures(source, data.side):
                yield autoencoder.raw_moments(images.to(device))

    autoencoder.stats.measure(posteriors())

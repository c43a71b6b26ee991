"""From a run's config to a trained model in a run directory.

Running the same command again resumes; a finished run only writes its model and report again.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from calotype.autoencoder.base import Autoencoder, PixelSpace
from calotype.autoencoder.latent_space import LatentSpace
from calotype.autoencoder.tiling import Bounded
from calotype.conditioning.conditioner import ConditionerConfig, Conditioners
from calotype.console import console
from calotype.data.companions import Offer
from calotype.data.folder import open_source
from calotype.data.loader import Loader, pictures
from calotype.data.source import Source
from calotype.data.subset import hold_out
from calotype.diffusion.classifier import Classifier
from calotype.diffusion.denoiser import Denoiser
from calotype.errors import UserError
from calotype.generation.classifier import LatentClassifier
from calotype.generation.images import grid, save_png
from calotype.jobs.classifier_report import accuracy_by_noise, classifier_report
from calotype.jobs.latents import latent_loader, normalise_latents
from calotype.jobs.report import autoencoder_report, diffusion_report, few
from calotype.model import LatentDiffusion, load_autoencoder, model_folder, save_autoencoder
from calotype.registry import to_plain
from calotype.runs import AutoencoderRun, ClassifierRun, DataConfig, DiffusionRun
from calotype.runtime import best_device
from calotype.tasks.classify import Classify
from calotype.tasks.denoise import Denoise
from calotype.tasks.reconstruct import Reconstruct
from calotype.training.run import RunDirectory
from calotype.training.trainer import Trainer, TrainResult

M = TypeVar("M", bound=nn.Module)

PIXELS = "pixels"
"""The name of "no compression" where an autoencoder's run is asked for."""

WIDE_ATTENTION = 32
"""Side of the largest feature map that attention is quick on without an accelerator."""


@dataclass(frozen=True)
class Stage:
    """What a training job leaves behind.

    Args:
        run: its directory; the model is in `run / "model"`.
        training, held_out: the pictures it learned from, and those it was measured on.
        result: steps, speed, last losses; of the whole run, resumed parts included.
        fitting: seconds that this call spent in training.
    """

    run: Path
    training: Source
    held_out: Source
    result: TrainResult
    fitting: float


def train_autoencoder(config: AutoencoderRun, out: Path) -> Stage:
    """Train the first stage and write RUN/model, RUN/reconstructions.png, RUN/report.html.

    Raises:
        UserError: data that cannot be read, a side that does not fit the factor, a run of another config, ...
    """
    _fits(config.data.side, config.autoencoder.network.factor)
    training, held_out = _split(config.data, config.trainer.seed)
    # What can be wrong is found out before there is a run, so that the corrected command can have the same folder.
    torch.manual_seed(config.trainer.seed)
    autoencoder = _built(config.autoencoder.build, "autoencoder")
    perceptual = config.perceptual.build()
    task = Reconstruct(autoencoder, _built(config.discriminator.build, "discriminator"), perceptual, config.loss)
    preview = next(pictures(few(held_out, 16), config.data.side, 16), None)  # None: the first batch
    with RunDirectory(out, to_plain(config)) as run:
        loader = Loader(
            training,
            config.data.side,
            config.trainer.batch_size,
            config.trainer.seed,
            config.data.augment,
            config.data.balance,
        )
        console().print(f"autoencoder: {len(training)} pictures of {training.name}, {_size(autoencoder)}", markup=False)
        trainer = Trainer(
            task,
            {"autoencoder": config.optimizer, "discriminator": config.critic},
            loader.batches,
            run,
            config.trainer,
            save_preview=_save_pictures,
            preview_batch=preview,
        )
        begun = time.monotonic()
        result = trainer.fit()
        fitting = time.monotonic() - begun
        _tell(result, loader.bad.messages)
        with trainer.averaged():
            normalise_latents(autoencoder, training, config, run.model)
            save_autoencoder(autoencoder, run.model, config.data.side, _notes(training, result, config.data))
            what = "training pictures" if held_out is training else "held-out pictures"
            autoencoder_report(run, config, held_out, autoencoder, result, what=what)
    return Stage(out, training, held_out, result, fitting)


def train_diffusion(config: DiffusionRun, out: Path) -> Stage:
    """Cache latents, train the second stage, write RUN/model, RUN/samples.png, RUN/report.html.

    Raises:
        UserError: data without the wishes that the recipe conditions on, no such autoencoder, another one than the run
            was started with, ...
    """
    autoencoder = open_autoencoder(config.autoencoder)
    _fits(config.data.side, autoencoder.factor)
    training, held_out = _split(config.data, config.trainer.seed)
    torch.manual_seed(config.trainer.seed)
    offer = config.data.offer(training)
    latents = Bounded(autoencoder)
    conditioner = Conditioners.fit(_possible(config, offer), offer, latents, config.drop)
    denoiser = build_denoiser(config, autoencoder, conditioner)
    space = LatentSpace.of(autoencoder)
    # The path alone says little: the run it names may have gone on training, and the denoiser would have two spaces.
    # So may the data: label 3 has to stay the same class, and a token the same piece of a word.
    with RunDirectory(out, to_plain(config), {"autoencoder": space.autoencoder} | conditioner.fixed()) as run:
        known = run.recall(conditioner.assets())
        if known != conditioner.assets():
            conditioner = Conditioners.load(conditioner.configs, known, latents, config.drop)
        model = LatentDiffusion(
            autoencoder.to(best_device()), denoiser, conditioner, config.data.side, trained_with=space
        )
        loader = latent_loader(training, config, autoencoder, space, run.path / "latents", conditioner.reads)
        console().print(
            f"diffusion: {len(training)} pictures of {training.name}, {_size(denoiser)}, conditions: "
            f"{', '.join(conditioner.reads) or 'none'}",
            markup=False,
        )
        _warn_of_wide_attention(config, autoencoder.factor)
        trainer = Trainer(
            Denoise(model, config.objective, config.preview),
            {"denoise": config.optimizer},
            loader.batches,
            run,
            config.trainer,
            save_preview=_save_pictures,
        )
        begun = time.monotonic()
        result = trainer.fit()
        fitting = time.monotonic() - begun
        _tell(result, loader.bad.messages)
        with trainer.averaged():
            model.notes = _notes(training, result, config.data)
            model.save(run.model)
            diffusion_report(run, config, training, model, result)
    return Stage(out, training, held_out, result, fitting)


def train_classifier(config: ClassifierRun, out: Path) -> Stage:
    """Train a classifier of noisy latents, write RUN/model, RUN/report.html.

    Raises:
        UserError: data without at least two classes, no such autoencoder, another one than the run was started with,
            latents that the network cannot halve as often as it has levels, ...
    """
    autoencoder = open_autoencoder(config.autoencoder)
    _fits(config.data.side, autoencoder.factor)
    training, held_out = _split(config.data, config.trainer.seed)
    if len(training.classes) < 2:
        raise UserError(
            f"{training.name} has {len(training.classes)} classes, a classifier needs at least two; put the pictures "
            "in one folder per class"
        )
    _fits_network(config.data.side, config.network.half.factor, autoencoder)
    torch.manual_seed(config.trainer.seed)
    half = replace(config.network.half, in_channels=autoencoder.channels)
    network = replace(config.network, classes=len(training.classes), half=half)
    classifier = Classifier(_built(network.build, "classifier"), config.schedule)
    space = LatentSpace.of(autoencoder)
    inputs = {"autoencoder": space.autoencoder, "classes": ", ".join(training.classes)}
    with RunDirectory(out, to_plain(config), inputs) as run:
        loader = latent_loader(training, config, autoencoder.to(best_device()), space, run.path / "latents")
        console().print(
            f"classifier: {len(training)} pictures of {training.name} in {len(training.classes)} classes, "
            f"{_size(classifier)}",
            markup=False,
        )
        trainer = Trainer(
            Classify(classifier, autoencoder, config.time_sampler),
            {"classify": config.optimizer},
            loader.batches,
            run,
            config.trainer,
        )
        begun = time.monotonic()
        result = trainer.fit()
        fitting = time.monotonic() - begun
        _tell(result, loader.bad.messages)
        with trainer.averaged():
            levels = accuracy_by_noise(classifier.eval(), autoencoder, held_out, config.data.side)
            notes = _notes(training, result, config.data) | {"accuracy": [[v.t, v.accuracy] for v in levels]}
            LatentClassifier(classifier, training.classes, space, notes).save(run.model)
            what = "training pictures" if held_out is training else "held-out pictures"
            classifier_report(run, config, held_out, levels, result, what)
    return Stage(out, training, held_out, result, fitting)


def open_autoencoder(name: str) -> Autoencoder:
    """The autoencoder of a run, or the identity for "pixels"; raises `UserError`."""
    return PixelSpace() if name == PIXELS else load_autoencoder(model_folder(Path(name)))


def build_denoiser(config: DiffusionRun, autoencoder: Autoencoder, conditioner: Conditioners) -> Denoiser:
    """The denoiser whose network fits the latents and the conditions.

    Raises:
        UserError: latents that the network cannot halve as often as it has levels, or that the loss is not defined for.
    """
    height, width = _fits_network(config.data.side, config.network.factor, autoencoder)
    config.objective.distance.check(height, width)
    routes = conditioner.routes()
    network = replace(
        config.network,
        in_channels=autoencoder.channels + (routes.spatial or 0),
        out_channels=autoencoder.channels * config.variance.outputs,
        context_width=routes.tokens,
        vector_width=routes.vector,
    )
    return Denoiser(
        _built(network.build, "network"), config.schedule, config.parameterization, variance=config.variance
    )


def _built(build: Callable[[], M], what: str) -> M:
    """The network that `build` makes.

    Raises:
        UserError: parts that do not fit together; more weights than the memory holds, which are counted first, on
            torch's "meta" device, which takes none.
    """
    try:
        with torch.device("meta"):
            weights = sum(p.numel() for p in build().parameters())
    except ValueError as error:
        raise UserError(f"{what}: {error}") from error
    # In training a weight of four bytes comes with a gradient, two moments and an average, wherever the device is.
    needed = 4 * weights * (5 if best_device().type == "cpu" else 1)
    if needed > _memory():
        raise UserError(
            f"{what} would have {weights / 1e6:,.0f} M parameters, which need {needed / 2**30:,.0f} GiB of the "
            f"{_memory() / 2**30:,.0f} GiB of memory here; take fewer channels or blocks"
        )
    return build()


def _memory() -> float:
    """Bytes of this machine, or infinity where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def _possible(config: DiffusionRun, offer: Offer) -> dict[str, ConditionerConfig]:
    """The conditioners that the data has wishes for: a recipe with captions also serves a folder without. Those that a
    recipe is about stay, and `Conditioners.fit` refuses the data."""
    possible = {}
    for name, conditioner in config.conditioners.items():
        missing = conditioner.lacks(offer)
        if missing and not conditioner.essential:
            console().print(
                f"  {offer.source.name} has no {missing}: training without the condition {name!r}", markup=False
            )
        else:
            possible[name] = conditioner
    return possible


def _split(data: DataConfig, seed: int) -> tuple[Source, Source]:
    source = open_source(data.source)
    if len(source) < 2:
        raise UserError(f"{source.name} holds one picture; training and measuring need at least two, better hundreds")
    training, held_out = hold_out(source, data.held_out, seed)
    return (training, held_out) if len(held_out) > 1 else (source, source)  # nothing is measured on one picture


def _fits(side: int, factor: int) -> None:
    if side % factor:
        near = sorted({max(factor, side - side % factor), side + factor - side % factor})
        raise UserError(
            f"data.side = {side} is not a multiple of the autoencoder's factor {factor}; "
            f"take {' or '.join(map(str, near))}"
        )


def _fits_network(side: int, factor: int, autoencoder: Autoencoder) -> tuple[int, int]:
    """Height and width of the latents; raises `UserError` unless they are multiples of the network's factor."""
    _, height, width = autoencoder.latent_shape(side, side)
    if height % factor:
        multiple = autoencoder.factor * factor
        near = sorted({max(multiple, side - side % multiple), side + multiple - side % multiple})
        raise UserError(
            f"pictures of {side} x {side} have latents of {height} x {width}, which the network cannot halve down to "
            f"1/{factor}; take data.side={' or '.join(map(str, near))}, fewer levels "
            "(network.multipliers) or another network.stem"
        )
    return height, width


def _warn_of_wide_attention(config: DiffusionRun, factor: int) -> None:
    """Say it where attention sees so many positions that a step may take a minute on a CPU."""
    change = config.network.narrower(config.data.side // factor, WIDE_ATTENTION)
    if change is not None and best_device().type == "cpu":
        console().print(
            f"  attention over more than {WIDE_ATTENTION} x {WIDE_ATTENTION} positions is slow on a CPU; without it: "
            f"{change}",
            markup=False,
        )


def _save_pictures(path: Path, images: Tensor) -> None:
    save_png(grid(images.float(), columns=8, cell=96), path)


def _size(module: torch.nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f} M parameters"


def _tell(result: TrainResult, bad: dict[int, str]) -> None:
    if result.resumed_from == result.steps:
        console().print(f"  {result.steps} steps, trained already")
        return
    line = f"  {result.steps} steps, {result.images_per_second:.0f} images/s"
    if result.matmul_rate:
        line += (
            f", {result.flops_per_second / 1e9:.0f} GFLOP/s = {result.share:.0%} of the {result.matmul_rate / 1e9:.0f} "
            "GFLOP/s that a large matrix product reaches here"
        )
    console().print(line)
    if bad:
        console().print(f"  {len(bad)} pictures could not be used: {'; '.join(list(bad.values())[:3])}", markup=False)


def _notes(source: Source, result: TrainResult, data: DataConfig) -> dict[str, Any]:
    captions = list(dict.fromkeys(c for c in source.captions() if c))
    return {
        "data": data.source,
        "pictures": len(source),
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "classes": list(source.classes),
        "captions": captions[:64],
    }

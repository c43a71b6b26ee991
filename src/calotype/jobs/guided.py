"""What a classifier and the model that it guides have to agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from calotype.diffusion.guidance import Guidance
from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.files import read_json
from calotype.generation.classifier import LatentClassifier
from calotype.generation.generate import Steer
from calotype.model import LatentDiffusion, described, model_folder, read_config
from calotype.registry import from_plain
from calotype.runs import ClassifierRun, DiffusionRun


def like(config: ClassifierRun, run: Path) -> ClassifierRun:
    """`config` with autoencoder, side, schedule and time sampler of a second stage's run, finished or not.

    A model folder without its run lends all but the time sampler.

    Raises:
        UserError: there is no such run, or it is not one of a second stage.
    """
    plain = read_json(run / "config.json") if (run / "config.json").is_file() else {}
    if not isinstance(plain, dict) or "objective" not in plain:
        return _like_model(config, run)
    other: DiffusionRun = from_plain(plain, DiffusionRun)
    return replace(
        config,
        data=replace(config.data, side=other.data.side),
        autoencoder=other.autoencoder,
        schedule=other.schedule,
        time_sampler=other.objective.time_sampler,
    )


def _like_model(config: ClassifierRun, run: Path) -> ClassifierRun:
    plain = read_config(model_folder(run), "latent-diffusion")
    with described(run):
        side, schedule = int(plain["side"]), from_plain(plain["denoiser"]["schedule"], Schedule, "schedule")
        return replace(config, data=replace(config.data, side=side), autoencoder=str(run), schedule=schedule)


def check_null(model: LatentDiffusion, guidance: Guidance) -> None:
    """Raise `UserError` if a guidance asks for the prediction without a wish, and the model has never met one."""
    if guidance.asks_null and not model.conditioner.knows_null:
        raise UserError(
            "the guidance contrasts a wish with none, but this model was trained without dropping any; take scale 1, "
            "or train it again with drop=0.1"
        )


def open_steer(run: Path, model: LatentDiffusion, classes: Sequence[str], scale: float, device: torch.device) -> Steer:
    """Guidance towards classes[i] for sample i by the classifier of a run, checked against the model.

    Raises:
        UserError: no classifier there, another autoencoder or schedule, no class asked for or an unknown one.
    """
    if not classes:
        raise UserError("a classifier guides towards a class, but none was asked for; add --class NAME")
    classifier = LatentClassifier.load(model_folder(run)).to(device)
    classifier.check(model, str(run))
    return classifier.steer(classes, scale)

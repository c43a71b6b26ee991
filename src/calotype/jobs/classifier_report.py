"""What a classifier of noisy latents can tell, by noise level: measured when its training has finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from calotype.autoencoder.base import Autoencoder
from calotype.console import console
from calotype.data.loader import pictures
from calotype.data.source import Source
from calotype.diffusion.classifier import Classifier
from calotype.jobs.report import few, minutes, training_section
from calotype.registry import to_plain
from calotype.report.html import Report
from calotype.rng import Draws
from calotype.runs import ClassifierRun
from calotype.tasks.classify import recognised
from calotype.training.run import RunDirectory
from calotype.training.trainer import TrainResult

MEASURED = 1000
"""Pictures that are looked at, at most."""

TIMES = (0.001, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Where accuracy is measured."""


@dataclass(frozen=True)
class NoiseLevel:
    """How many of n pictures with a class were recognised at time t, and by chance: the share of the largest class."""

    t: float
    logsnr: float
    accuracy: float
    n: int
    chance: float


@torch.no_grad()
def accuracy_by_noise(
    classifier: Classifier, autoencoder: Autoencoder, source: Source, side: int, seed: int = 0
) -> list[NoiseLevel]:
    """Accuracy at each of `TIMES`, for posterior modes of at most `MEASURED` pictures; empty if none has a class."""
    device = next(classifier.parameters()).device
    right, labels = [torch.zeros(0, dtype=torch.bool)] * len(TIMES), torch.zeros(0, dtype=torch.long)
    for batch in pictures(few(source, MEASURED), side):
        some = batch["label"] >= 0
        if not some.any():
            continue
        z, y = autoencoder.encode(batch["image"][some].to(device)), batch["label"][some]
        draws = Draws(seed, 0, batch["index"][some].tolist())
        for k, t in enumerate(TIMES):
            hits = recognised(classifier, z, y, t, draws.normal(f"noise {k}", z)).cpu()
            right[k] = torch.cat([right[k], hits])
        labels = torch.cat([labels, y])
    if not len(labels):
        return []
    chance = float(labels.bincount().max()) / len(labels)
    logsnr = classifier.schedule.logsnr(torch.tensor(TIMES, dtype=torch.float64)).tolist()
    return [
        NoiseLevel(t, snr, float(hits.double().mean()), len(labels), chance)
        for t, snr, hits in zip(TIMES, logsnr, right, strict=True)
    ]


def classifier_report(
    run: RunDirectory,
    config: ClassifierRun,
    source: Source,
    levels: Sequence[NoiseLevel],
    result: TrainResult,
    what: str,
) -> None:
    """Write RUN/report.html and say the accuracy at both ends.

    Args:
        what: "held-out pictures", or "training pictures" where none were held out.
    """
    report = Report(
        "A classifier of noisy latents",
        "How much of the class is left in a latent as it drowns in noise; guidance follows its gradient.",
        {"data": source.name, "steps": f"{result.steps:,}", "time": minutes(result.seconds)},
    )
    rows = [[f"{v.t:g}", f"{v.logsnr:.1f}", f"{v.accuracy:.1%}"] for v in levels]
    if levels:
        least = levels[0]
        report.tile("accuracy", f"{least.accuracy:.1%}", f"almost without noise, {least.n} {what}")
        report.tile("largest class", f"{least.chance:.1%}", "what always guessing it would reach")
        console().print(
            f"  {what}: {least.accuracy:.1%} recognised almost without noise, {levels[5].accuracy:.1%} at "
            f"t = {levels[5].t:g}; see {run.report}",
            markup=False,
        )
    section = report.section("Accuracy by noise level", f"{what[0].upper()}{what[1:]}, fresh noise, averaged weights.")
    section.table(["time", "log-SNR", "accuracy"], rows)
    training_section(report, "Training", run.path, result)
    report.section("Config").details("Config of the run", to_plain(config))
    report.save(run.report)

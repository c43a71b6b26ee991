"""The whole chain on embedded pictures: two trainings, captioned samples, measurements, one page to look at.

    OUT/report.html  OUT/samples.png  OUT/reconstructions.png  OUT/losses.png  OUT/metrics.jsonl  OUT/scores.json
    OUT/model/                  autoencoder, denoiser, conditioners: what `calotype sample OUT` opens
    OUT/autoencoder/  OUT/diffusion/     the two training runs

Interrupted, the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.config import resolve
from calotype.console import console
from calotype.data.folder import open_source
from calotype.data.loader import pictures
from calotype.data.source import Source
from calotype.evaluation.memorisation import Memorisation
from calotype.evaluation.runner import GenerationScores, ReconstructionScores, score_generation, score_reconstruction
from calotype.files import write_json
from calotype.generation.generate import Plan
from calotype.generation.images import grid, save_png
from calotype.jobs.report import (
    examples,
    in_pairs,
    interesting,
    minutes,
    plain_scores,
    read_lines,
    reconstruction_tiles,
    reconstructions,
    sample_images,
    spread,
    training_section,
)
from calotype.jobs.train import Stage, train_autoencoder, train_diffusion
from calotype.model import LatentDiffusion
from calotype.recipes import get
from calotype.registry import to_plain
from calotype.report.html import Report
from calotype.report.plots import histogram, loss_curves
from calotype.runs import AutoencoderRun, DiffusionRun

TRAINING, HELD_OUT = "embedded:fluent-people/train", "embedded:fluent-people/val"
MINUTES = 10.0
"""What the recipes' steps are meant for, on two CPU cores; `minutes` scales them in proportion."""

SHOWN = (
    "red heart",
    "smiling face with sunglasses",
    "police officer",
    "santa claus",
    "loudly crying face",
    "cook, medium skin tone",
    "angry face",
    "man mage, dark skin tone",
    "farmer, light skin tone",
    "person running",
    "grinning cat",
    "ghost",
    "blue heart",
    "astronaut",
    "face with medical mask",
    "princess, light skin tone",
)
"""Captions of the picture grid; all concepts of the training set, two samples each."""

MEASURED = 512
"""Generated pictures that the Fréchet distance is measured on."""


@dataclass(frozen=True)
class Demo:
    """What the demo measured.

    Args:
        out: where everything is.
        seconds: wall time, resumed parts included.
        peak_bytes: largest resident memory of the process.
        reconstruction, generation: the scores.
        recalled: share of samples whose nearest training picture, by thumbnails, is the very one that the caption was
            taken from. A model that invents has next to none, one that knows its pictures by heart nearly all.
    """

    out: Path
    seconds: float
    peak_bytes: int
    reconstruction: ReconstructionScores
    generation: GenerationScores
    recalled: float


@dataclass(frozen=True)
class Made:
    """What the report shows.

    Args:
        stage1, stage2: the trainings, by the configs `first` and `second`.
        model: the finished model.
        originals, reconstructions: held-out pictures, (n, 3, H, W).
        shown, captions: the picture grid.
        samples, training: the measured samples, and the pictures that they may be copies of.
        plan: how the grid was sampled.
    """

    stage1: Stage
    stage2: Stage
    first: AutoencoderRun
    second: DiffusionRun
    model: LatentDiffusion
    originals: Tensor
    reconstructions: Tensor
    shown: Tensor
    captions: list[str]
    samples: Tensor
    training: Tensor
    plan: Plan


def demo(out: Path, minutes_wanted: float | None = None) -> Demo:
    """Run the chain and write the folder of the module docstring.

    Args:
        out: the folder.
        minutes_wanted: scale both trainings to about this much in all; None = as the recipes say, about ten minutes.

    A folder that holds a shorter demo is gone on with, one that holds a longer demo is measured as it is.

    Raises:
        UserError: another process works there, the folder holds runs of other recipes, the disk is full.
    """
    begun = time.monotonic()
    scale = 1.0 if minutes_wanted is None else minutes_wanted / MINUTES
    first: AutoencoderRun = _scaled(
        get("small-autoencoder").build(), scale, [f"data.source={TRAINING}", "data.held_out=0"]
    )
    second: DiffusionRun = _scaled(get("emoji-diffusion").build(), scale, [f"data.source={TRAINING}"])
    second = replace(second, autoencoder=str(out / "autoencoder"))
    held_out = open_source(HELD_OUT)

    stage1 = train_autoencoder(first, out / "autoencoder")
    stage2 = train_diffusion(second, out / "diffusion")
    shutil.copytree(out / "diffusion" / "model", out / "model", dirs_exist_ok=True)
    model = LatentDiffusion.load(out / "model")

    x, y = reconstructions(model.autoencoder, held_out, model.side)
    reconstruction = score_reconstruction(in_pairs(x, y), pictures=f"held-out pictures of {held_out.name}")
    some = spread(len(x), 16)
    save_png(
        grid(torch.stack([x[some], y[some]], 1).flatten(0, 1), columns=8, cell=128, title="original, reconstruction"),
        out / "reconstructions.png",
    )
    plan = replace(second.preview, steps=25, batch=32)
    captions = [c for c in SHOWN for _ in range(2)]
    shown = sample_images(model, {"caption": captions}, plan, len(captions), seed=7, what="sampling the captioned grid")
    save_png(grid(shown, columns=8, captions=captions, cell=128), out / "samples.png")

    training = _images(stage2.training, model.side)
    wishes = examples(second.data, stage2.training, model.conditioner.reads, MEASURED).wishes
    samples = sample_images(
        model,
        wishes,
        replace(plan, steps=15, batch=64),
        MEASURED,
        seed=11,
        what=f"sampling {MEASURED} pictures to measure",
    )
    with torch.no_grad():
        generation = score_generation(
            samples,
            torch.cat([training, x]),
            training=training,
            heldout=x,
            through=lambda image: model.decode(model.autoencoder.encode(image)).clamp(-1, 1),
            mirrored=second.data.flip,
            pictures=f"real pictures of {stage2.training.name} and its held-out part",
        )
    stages = (stage1, stage2)
    rest = time.monotonic() - begun - sum(s.fitting for s in stages)
    seconds = rest + sum(s.result.seconds for s in stages)
    assert generation.memorisation is not None  # training pictures were given
    pairs = zip(generation.memorisation.pixels.neighbour, spread(len(training), MEASURED), strict=True)
    recalled = sum(found == wished for found, wished in pairs) / MEASURED
    done = Demo(out, seconds, _peak_memory(), reconstruction, generation, recalled)
    _write(done, Made(stage1, stage2, first, second, model, x, y, shown, captions, samples, training, plan))
    _tell(done)
    return done


def _scaled(config: Any, scale: float, overrides: list[str]) -> Any:
    steps = max(10, round(config.trainer.steps * scale))
    return resolve(config, None, [*overrides, f"trainer.steps={steps}"])


def _images(source: Source, side: int) -> Tensor:
    return torch.cat([batch["image"] for batch in pictures(source, side)])


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _write(done: Demo, made: Made) -> None:
    out, g = done.out, done.generation
    runs = {"autoencoder": out / "autoencoder", "diffusion": out / "diffusion"}
    logs = {stage: read_lines(run / "metrics.jsonl") for stage, run in runs.items()}
    lines = [{"stage": stage} | line for stage, log in logs.items() for line in log]
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    write_json(
        out / "scores.json",
        {
            "seconds": done.seconds,
            "peak_bytes": done.peak_bytes,
            "recalled": done.recalled,
            "reconstruction": plain_scores(done.reconstruction),
            "generation": plain_scores(g),
            "training": {
                "autoencoder": plain_scores(made.stage1.result),
                "diffusion": plain_scores(made.stage2.result),
            },
        },
    )
    for stage, log in logs.items():
        for plot in loss_curves(log, [n for n in interesting(runs[stage] / "metrics.jsonl") if n.endswith("/loss")]):
            plot.save_png(out / f"losses-{stage}-{plot.title.replace('/', '-')}.png")
    _page(done, made, runs).save(out / "report.html")


def _page(done: Demo, made: Made, runs: dict[str, Path]) -> Report:
    g, autoencoder = done.generation, made.model.autoencoder
    report = Report(
        "Emoji out of noise",
        "A latent diffusion model trained from scratch by one command on a CPU. The wish is below each picture.",
        {
            "data": f"{len(made.stage2.training):,} Fluent emoji, 64 x 64",
            "time": minutes(done.seconds),
            "memory": f"{done.peak_bytes / 2**30:.1f} GiB",
            "sampler": f"DPM++(2M), {made.plan.steps} steps",
        },
    )
    report.lead.pictures(made.shown, made.captions, columns=8)
    reconstruction_tiles(report, done.reconstruction)
    report.tile(
        "FD-lite0",
        f"{g.frechet.mean:.1f}",
        f"± {g.frechet.std:.1f}, {g.n} against {g.n}; real against real: {g.floor.mean:.1f}",
    )
    copies = g.memorisation
    assert copies is not None  # training pictures were given
    report.tile(
        "Recalled",
        f"{done.recalled:.0%}",
        f"of {len(made.samples)} samples are nearest to the very picture of their caption, out of "
        f"{copies.training:,}; {copies.fraction:.0%} are as near as a copy",
    )
    side, rows = made.model.side // autoencoder.factor, spread(len(made.originals), 16)
    report.section(
        "Compression",
        f"64 x 64 x 3 numbers become {side} x {side} x {autoencoder.channels}. These emoji were "
        "held out: no variant of their concepts was trained on.",
    ).compare({"original": list(made.originals[rows]), "reconstruction": list(made.reconstructions[rows])}, columns=8)
    order = torch.tensor(copies.features.distance).argsort()
    near = order[torch.linspace(0, len(order) - 1, 16).long()].tolist()
    neighbours = [copies.features.neighbour[i] for i in near]
    report.section(
        "How much is memorised",
        "Each sample beside the training picture that is nearest to it in the feature space, from the nearest pair "
        "to the farthest.",
    ).compare(
        {"sample": list(made.samples[near]), "nearest training picture": list(made.training[neighbours])}, columns=8
    ).figures(
        [
            histogram(
                {"samples": copies.features.distance, "held-out pictures": copies.features.heldout_distance},
                title="Distance to the nearest training picture",
                xlabel="feature distance",
                marks={"close": copies.features.threshold},
            )
        ]
    ).note(_reading(copies, done.recalled))
    training_section(report, "First stage", runs["autoencoder"], made.stage1.result)
    training_section(report, "Second stage", runs["diffusion"], made.stage2.result)
    (
        report.section("How this was measured")
        .text(done.reconstruction.protocol)
        .text(g.protocol)
        .details("Config of the first stage", to_plain(made.first))
        .details("Config of the second stage", to_plain(made.second))
    )
    return report


def _reading(copies: Memorisation, recalled: float) -> str:
    """What the search for copies says, in words."""
    return (
        f"Given the caption of a training picture, the model makes a picture whose nearest neighbour among all "
        f"{copies.training:,} is that very picture in {recalled:.0%} of the cases (a guess: "
        f"{1 / copies.training:.1%}). Where that is high, pictures are recalled rather than invented. Exact copies are "
        f"another matter: {copies.fraction:.0%} of the samples lie nearer to a training picture than all but "
        f"{copies.expected:.0%} of new real pictures; soft samples keep this low. In thumbnails a sample is nearer "
        f"than a held-out emoji with probability {copies.pixels.closer:.2f} (0.5: no sign of copying, 1: copies). A "
        "caption here often names exactly one picture, so following it and recalling it can hardly be told apart: read "
        "the samples as proof that the chain works, not that the model invents."
    )


def _tell(done: Demo) -> None:
    from rich.markup import escape  # late: rich takes a while to import

    r, g = done.reconstruction, done.generation
    console().print(
        f"\n[bold]done[/] in {minutes(done.seconds)}, at most {done.peak_bytes / 2**30:.1f} GiB of memory\n"
        f"  reconstruction  PSNR {r.psnr.mean:.2f} dB, SSIM {r.ssim.mean:.3f}, perceptual {r.perceptual.mean:.3f} "
        f"({r.n} held-out pictures)\n"
        f"  samples         FD-lite0 {g.frechet.mean:.1f} at N = {g.n}; real against real {g.floor.mean:.1f}\n"
        + (
            f"  memorised       {done.recalled:.0%} of samples are nearest to the very picture of their caption, out "
            f"of {g.memorisation.training:,}; {g.memorisation.fraction:.0%} are as near as a copy\n"
            if g.memorisation
            else ""
        )
        + f"  look at         [bold]{escape(str(done.out / 'report.html'))}[/], {escape(str(done.out / 'samples.png'))}"
    )

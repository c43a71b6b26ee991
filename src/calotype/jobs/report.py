"""The reports of single runs: a page to look at, written when training has finished."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.autoencoder.base import Autoencoder
from calotype.autoencoder.latent import LatentAutoencoder
from calotype.console import console, counting
from calotype.data.images import open_image
from calotype.data.loader import pictures
from calotype.data.source import Source
from calotype.data.subset import Subset
from calotype.errors import UserError
from calotype.evaluation.runner import ReconstructionScores, score_reconstruction
from calotype.generation.generate import Plan
from calotype.generation.images import grid, save_png
from calotype.generation.request import Request, fulfil
from calotype.generation.wishes import drawings, sheet, texts
from calotype.model import LatentDiffusion
from calotype.registry import to_plain
from calotype.report.html import Report, Section
from calotype.report.plots import loss_curves
from calotype.runs import AutoencoderRun, DataConfig, DiffusionRun
from calotype.training.run import RunDirectory
from calotype.training.trainer import TrainResult

MEASURED = 1000
"""Pictures that a single run's report is measured on, at most."""

TITLES = {
    "loss": "Loss",
    "l1": "Absolute error",
    "l2": "Squared error",
    "perceptual": "Perceptual distance",
    "kl": "KL, nats per latent element",
    "codebook": "Codebook loss",
    "perplexity": "Codes in use in a batch (perplexity)",
    "codes_used": "Share of the codes used in a batch",
    "epoch_perplexity": "Codes in use in an epoch (perplexity)",
    "epoch_codes_used": "Share of the codes used in an epoch",
    "logvar": "Learned scale of the errors (log)",
    "generator": "What the discriminator asks for",
    "adaptive_weight": "Adaptive weight",
    "logits_real": "Discriminator on real pictures",
    "logits_fake": "Discriminator on reconstructions",
    "penalty": "Penalty of the discriminator",
    "accuracy": "Share of noisy latents recognised",
    "accuracy_t_0.00_0.25": "Recognised at t up to 0.25",
    "accuracy_t_0.25_0.50": "Recognised at t from 0.25 to 0.5",
    "accuracy_t_0.50_0.75": "Recognised at t from 0.5 to 0.75",
    "accuracy_t_0.75_1.00": "Recognised at t above 0.75",
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
    "images_per_second": "Images per second",
}
"""What a drawing is called, by the last part of the scalar's name."""

PREVIEWS = 4
"""Sheets of previews in a report, spread over the run."""


def autoencoder_report(
    run: RunDirectory,
    config: AutoencoderRun,
    held_out: Source,
    autoencoder: LatentAutoencoder,
    result: TrainResult,
    *,
    what: str,
) -> ReconstructionScores:
    """Measure reconstructions; write RUN/reconstructions.png and report.html.

    Args:
        what: "held-out pictures", or "training pictures" where none were held out.
    """
    x, y = reconstructions(autoencoder, held_out, config.data.side)
    scores = score_reconstruction(in_pairs(x, y), pictures=f"{what} of {held_out.name}")
    some = spread(len(x), 16)
    show = torch.stack([x[some], y[some]], 1).flatten(0, 1)
    save_png(grid(show, columns=8, cell=128, title="original, reconstruction"), run.path / "reconstructions.png")
    report = Report(
        "A perceptual autoencoder",
        f"Eight bits per channel become {autoencoder.channels} numbers for every {autoencoder.factor} x "
        f"{autoencoder.factor} pixels; below, what comes back.",
        {"data": held_out.name, "steps": f"{result.steps:,}", "time": minutes(result.seconds)},
    )
    report.lead.compare({"original": list(x[some]), "reconstruction": list(y[some])}, columns=8)
    reconstruction_tiles(report, scores, what)
    training_section(report, "Training", run.path, result)
    report.section("How this was measured").text(scores.protocol).details("Config of the run", to_plain(config))
    report.save(run.report)
    console().print(
        f"  {what}: PSNR {scores.psnr.mean:.2f} dB, SSIM {scores.ssim.mean:.3f}; see {run.report}",
        markup=False,
    )
    return scores


def diffusion_report(
    run: RunDirectory, config: DiffusionRun, source: Source, model: LatentDiffusion, result: TrainResult
) -> None:
    """Sample pictures for wishes of the data; write RUN/samples.png and report.html."""
    shown = examples(config.data, source, model.conditioner.reads, 32)
    labels = texts(shown.wishes, 32, model.conditioner.names.get("label", ()))
    drawn = drawings(shown.wishes, model.conditioner)
    images = sample_images(model, shown.wishes, config.preview, 32, seed=0, what="sampling 32 pictures")
    if drawn:
        few_rows = {name: row[:8] for name, row in drawn.items()} | {
            "sample": [*images[:8]],
            "original": [*shown.images[:8]],
        }
        columns = len(few_rows) * max(1, 8 // len(few_rows))
        save_png(grid(sheet(few_rows), columns=columns, title=", ".join(few_rows)), run.path / "samples.png")
    else:
        save_png(grid(images, columns=8, captions=labels, cell=128), run.path / "samples.png")
    report = Report(
        "A latent diffusion model",
        f"Developed out of noise{'; the wish is below each picture' if any(labels) else ''}.",
        {"data": source.name, "steps": f"{result.steps:,}", "time": minutes(result.seconds)},
    )
    report.lead.pictures(images, labels, columns=8)
    if drawn:
        rows = {name.replace("_", " "): row for name, row in drawn.items()}
        rows |= {"sample": [*images], "original": [*shown.images]}
        report.section("Wish, sample, original").compare(rows, columns=8)
    training_section(report, "Training", run.path, result)
    report.section("Config").details("Config of the run", to_plain(config))
    report.save(run.report)


@torch.no_grad()
def reconstructions(autoencoder: Autoencoder, source: Source, side: int) -> tuple[Tensor, Tensor]:
    """Pictures of a source, at most `MEASURED` spread over it, and what the autoencoder makes of them; on the CPU.

    Raises:
        UserError: fewer than two can be read.
    """
    device = next(autoencoder.parameters()).device
    xs, ys = [], []
    for batch in pictures(few(source, MEASURED), side):
        x = batch["image"]
        xs.append(x)
        ys.append(autoencoder.decode(autoencoder.encode(x.to(device))).clamp(-1, 1).cpu())
    n = sum(map(len, xs))
    if n < 2:
        raise UserError(
            f"{n} pictures of {source.name} can be read, at least 2 are needed to measure; "
            "look at `calotype data show`, or hold out more (data.held_out)"
        )
    return torch.cat(xs), torch.cat(ys)


def in_pairs(x: Tensor, y: Tensor, batch: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """Two lists of pictures as batches of pairs: measuring all at once would need gigabytes for feature maps."""
    for first in range(0, len(x), batch):
        yield x[first : first + batch], y[first : first + batch]


def sample_images(
    model: LatentDiffusion, wishes: Mapping[str, Sequence[Any]], plan: Plan, n: int, *, seed: int, what: str
) -> Tensor:
    """n pictures (n, 3, H, W) of the side of training, on the CPU, with progress shown; known pixels are put back."""
    done = []
    with counting(what, n * plan.steps) as advance:
        for update in fulfil(model, Request(n, model.side, model.side, wishes), plan, seed=seed):
            advance(len(update.x_0))
            if update.image is not None:
                done.append(update.image.cpu())
    return torch.cat(done)


@dataclass(frozen=True)
class Examples:
    """Pictures of a data set, centre-cropped, and the wishes that a model would be told about them.

    Args:
        wishes: entry -> n values.
        images: (n, 3, H, W).
    """

    wishes: dict[str, list[Any]]
    images: Tensor


def examples(data: DataConfig, source: Source, reads: Collection[str], n: int) -> Examples:
    """n pictures spread evenly over the data; some come again if there are fewer.

    Args:
        reads: the entries wanted.

    Raises:
        UserError: none can be read.
    """
    rows = Subset(source, spread(len(source), n), source.name)
    batches = [*pictures(rows, data.side, companions=data.offer(source).read_by(reads))]
    if not batches:
        raise UserError(f"none of the {len(source)} pictures of {source.name} can be read")
    wishes = {key: [value for batch in batches for value in batch[key]] for key in batches[0] if key in reads}
    if "label" in wishes:
        wishes["label"] = [int(label) for label in wishes["label"]]
    images = torch.cat([batch["image"] for batch in batches])
    again = [k % len(images) for k in range(n)]  # in place of those that cannot be read
    return Examples({key: [values[k] for k in again] for key, values in wishes.items()}, images[again])


def spread(total: int, n: int) -> list[int]:
    """n rows of `total`, evenly apart; some come again if there are fewer."""
    return [k * total // n for k in range(n)]


def few(source: Source, n: int) -> Source:
    """At most n pictures of a source, evenly apart."""
    if len(source) <= n:
        return source
    return Subset(source, spread(len(source), n), f"{n:,} of the {len(source):,} of {source.name}")


def reconstruction_tiles(report: Report, scores: ReconstructionScores, what: str = "held-out pictures") -> None:
    """The headline figures of the first stage."""
    n = f"{scores.n} {what}"
    report.tile("PSNR", f"{scores.psnr.mean:.1f}", f"± {scores.psnr.std:.1f}, {n}", unit="dB")
    report.tile("SSIM", f"{scores.ssim.mean:.3f}", f"± {scores.ssim.std:.3f}, {n}")
    report.tile(scores.distance, f"{scores.perceptual.mean:.3f}", f"± {scores.perceptual.std:.3f}, {n}")


def training_section(report: Report, title: str, run: Path, result: TrainResult) -> Section:
    """How one stage learned: the same pictures over time, its curves, its speed.

    Args:
        run: the stage's folder.
    """
    metrics = run / "metrics.jsonl"
    section = report.section(title)
    sheets = sorted((run / "previews").glob("*.png"))
    if len(sheets) > 1:
        chosen = [sheets[i] for i in dict.fromkeys([*spread(len(sheets) - 1, PREVIEWS - 1), len(sheets) - 1])]
        section.pictures(
            [open_image(sheet) for sheet in chosen],
            [f"step {int(sheet.stem.rpartition('-')[2]):,}" for sheet in chosen],
            columns=2,
            caption="The same pictures, as training went on.",
        )
    names = interesting(metrics)
    section.figures(loss_curves(read_lines(metrics), names, labels={name: title_of(name, names) for name in names}))
    rows = [
        ["steps", f"{result.steps:,}"],
        ["wall time", minutes(result.seconds)],
        ["images per second", f"{_speed(metrics):.0f}"],
        ["steps skipped (not finite)", str(result.skipped)],
        ["updates left out (gradient spikes)", str(result.spikes)],
    ]
    if result.flops_per_second:  # unknown when a finished run was only measured again
        rows += [
            ["GFLOP/s while training", f"{result.flops_per_second / 1e9:.0f}"],
            ["GFLOP/s of a large matrix product here", f"{result.matmul_rate / 1e9:.0f}"],
            ["share", f"{result.share:.0%}"],
        ]
    return section.table(["", title.lower()], rows)


def read_lines(metrics: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; none if the run ended before the first."""
    if not metrics.exists():
        return []
    with metrics.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _speed(metrics: Path) -> float:
    """Images per second over the whole run, from its log."""
    speeds = [float(line["images_per_second"]) for line in read_lines(metrics)]
    return sum(speeds) / max(1, len(speeds))


def interesting(metrics: Path) -> list[str]:
    """The scalars worth a drawing, losses first."""
    names = dict.fromkeys(k for line in read_lines(metrics) for k in line if k not in ("step", "seconds"))
    last = ("grad_norm", "lr", "images_per_second")
    return sorted(names, key=lambda name: name.rpartition("/")[2] in last)


def title_of(name: str, names: Sequence[str]) -> str:
    """A scalar's name as a person would say it, with the phase where several phases have such a scalar."""
    phase, _, what = name.rpartition("/")
    shared = sum(n.rpartition("/")[2] == what for n in names) > 1
    return TITLES.get(what, what.replace("_", " ")) + (f", {phase}" if shared else "")


def minutes(seconds: float) -> str:
    """ "3 min 20 s"."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def plain_scores(scores: object) -> dict[str, Any]:
    """A dataclass of scores as JSON values."""
    return asdict(scores)  # type: ignore[call-overload,no-any-return]

"""How well an autoencoder gives pictures back: RUN and DATA -> a table, and a page to look at.

    RUN/evaluation/NAME/scores.json     every number with its N, its network and the sentence how it was measured
    RUN/evaluation/NAME/report.html     the same, with the best, middling and worst reconstructions

NAME is that of the data; evaluating on the same data again replaces both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype import __version__
from calotype.autoencoder.latent import LatentAutoencoder
from calotype.autoencoder.latent_space import weights_hash
from calotype.console import console, counting
from calotype.data.folder import open_source
from calotype.data.loader import Bad, pictures
from calotype.data.source import Source
from calotype.data.subset import Subset
from calotype.errors import UserError
from calotype.evaluation.latents import LatentCensus, LatentScores
from calotype.evaluation.runner import Comparison, ReconstructionScores
from calotype.files import read_json, write_json
from calotype.jobs.report import few
from calotype.jobs.train import PIXELS
from calotype.losses.perceptual import PerceptualConfig, perceptuals
from calotype.model import load_autoencoder, model_folder
from calotype.registry import to_plain
from calotype.report.html import Report
from calotype.report.plots import histogram
from calotype.runtime import best_device

SMALLEST = 11
"""Pixels of the window that SSIM looks through."""

AT_ONCE = 64 * 64 * 64
"""Pixels of a batch."""

SHOWN = 4
"""Pairs of pictures in each part of the page."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Args:
        out: the folder.
        reconstruction, latents: the scores.
        psnr: of each picture, dB, by its number in the source.
    """

    out: Path
    reconstruction: ReconstructionScores
    latents: LatentScores
    psnr: dict[int, float]


def evaluate(
    run: Path,
    data: str,
    *,
    side: int | None = None,
    limit: int | None = None,
    perceptual: str = "lite0",
    weights: Path | None = None,
    out: Path | None = None,
) -> Evaluation:
    """Measure the autoencoder of a run of either stage, print a table and write the folder of the module docstring.

    Args:
        run: a run's folder, or the demo's.
        data: a folder of pictures, or "embedded:NAME".
        side: pixels; None = what the model was trained at.
        limit: pictures, evenly spread over the data; None = all.
        perceptual: name of the perceptual distance.
        weights: of its network, if they do not come with the package.
        out: the folder; None = RUN/evaluation/NAME, where NAME is that of the data.

    Raises:
        UserError: no model there or one of pixels, no such data or fewer than two readable pictures, a side that does
            not fit, no weights, ...; nothing is written then.
    """
    if str(run) == PIXELS and not run.exists():
        raise UserError("pixels are not compressed, so there is no autoencoder to evaluate; name a run's folder")
    distance = _distance(perceptual, weights)
    autoencoder, trained_at, kind = _open(run)
    side = _fitting(autoencoder, trained_at if side is None else side, distance.smallest)
    source = open_source(data)
    if len(source) < 2:
        raise UserError(f"{source.name} holds {len(source)} picture; measuring needs at least two, better hundreds")
    out = out or run / "evaluation" / _name(data)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder with --out")
    source = source if limit is None else few(source, limit)
    autoencoder = autoencoder.to(best_device())
    if kind != "autoencoder":
        console().print(f"{run} holds a diffusion model: its autoencoder is evaluated", markup=False)

    bad = Bad(source.total)
    census, comparison = LatentCensus(autoencoder), Comparison(perceptual=distance.build())
    psnr: dict[int, float] = {}
    with counting(f"evaluating {len(source):,} pictures", len(source)) as advance:
        for index, x in _batches(source, side, bad):
            x = x.to(best_device())
            values = comparison.add(x, _decoded(autoencoder, census.encode(x)))
            psnr |= dict(zip(index, values[0].tolist(), strict=True))
            advance(len(index))
    if len(psnr) < 2:
        raise UserError(f"{len(psnr)} pictures of {source.name} can be read; measuring needs at least two")
    if bad.messages:
        console().print(
            f"  {len(bad.messages)} pictures cannot be read: {'; '.join([*bad.messages.values()][:3])}", markup=False
        )
    done = Evaluation(out, comparison.scores(f"pictures of {source.name}"), census.scores(), psnr)
    rows = table(done.reconstruction, done.latents)
    _write(done, rows, run, data, source, autoencoder)
    _print(rows, done)
    return done


def table(r: ReconstructionScores, z: LatentScores) -> list[tuple[str, str]]:
    """The findings as (what, how much), as they are shown."""
    rows = [
        ("pictures", f"{r.n:,} of {r.side[1]} x {r.side[0]} pixels"),
        ("PSNR", f"{r.psnr.mean:.2f} ± {r.psnr.std:.2f} dB"),
        ("SSIM", f"{r.ssim.mean:.3f} ± {r.ssim.std:.3f}"),
        (r.distance, f"{r.perceptual.mean:.3f} ± {r.perceptual.std:.3f}"),
        ("R-FD (lite0)", f"{r.frechet:.2f}, N = {r.n:,}, same pictures on both sides"),
    ]
    if r.halves:
        h = r.halves
        rows.append(
            (
                "between halves",
                f"{h.reconstructed.mean:.2f} ± {h.reconstructed.std:.2f}, floor {h.floor.mean:.2f} ± {h.floor.std:.2f} "
                f"(real against real), N = {h.n:,}",
            )
        )
    rows.append(("latent", f"f = {z.factor}, {z.channels} channels"))
    if z.bits_per_pixel is not None:
        rows.append(("bits per pixel", f"{z.bits_per_pixel:.3f}" + ("" if z.codebook else " (KL to the prior)")))
    if z.codebook:
        c = z.codebook
        rows.append(("codes used", f"{c.used:,} of {c.size:,} ({c.share:.0%}), at {c.vectors:,} places"))
        rows.append(("perplexity", f"{c.perplexity:,.1f}, at most {c.ceiling:,}"))
    shown = " ".join(f"{s:.2f}" for s in z.std) if len(z.std) <= 8 else f"{min(z.std):.2f} ... {max(z.std):.2f}"
    rows.append(("std of latents", f"{shown} per channel; should be about 1"))
    return rows


def _distance(name: str, weights: Path | None) -> PerceptualConfig:
    """The config of the perceptual distance; raises `UserError` for an unknown one, or needless weights."""
    takes = {f.name for f in fields(perceptuals[name])}  # type: ignore[arg-type]  # members are dataclasses
    if weights is None:
        return perceptuals.create(name)
    if "weights" not in takes:
        raise UserError(f"the network of {name} comes with the package and takes no weights; leave out --weights")
    return perceptuals.create(name, weights=str(weights))


def _open(run: Path) -> tuple[LatentAutoencoder, int, str]:
    """The autoencoder of a run, the side it was trained at, the kind of its model."""
    folder = model_folder(run)
    autoencoder = load_autoencoder(folder)
    if not isinstance(autoencoder, LatentAutoencoder):
        raise UserError(f"{run} works on pixels: there is no autoencoder to evaluate; name a run with a first stage")
    config = read_json(folder / "config.json")
    return autoencoder, int(config["side"]), str(config["kind"])


def _fitting(autoencoder: LatentAutoencoder, side: int, smallest: int) -> int:
    least = max(SMALLEST, smallest)
    if side < least:
        raise UserError(f"{side} x {side} pixels are too few to measure on, at least {least} are needed; give --side")
    try:
        autoencoder.latent_shape(side, side)
    except ValueError as error:
        raise UserError(f"--side {side} does not fit: {error}") from error
    return side


def _name(data: str) -> str:
    """A folder's name for a source: "embedded:fluent/val" -> "fluent-val", "my/photos/" -> "photos"."""
    last = data.removeprefix("embedded:") if data.startswith("embedded:") else Path(data).resolve().name
    return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "pictures"


def _batches(source: Source, side: int, bad: Bad) -> Iterator[tuple[list[int], Tensor]]:
    for batch in pictures(source, side, max(1, min(64, AT_ONCE // side**2)), bad=bad):
        yield batch["index"].tolist(), batch["image"]


@torch.no_grad()
def _decoded(autoencoder: LatentAutoencoder, z: Tensor) -> Tensor:
    return autoencoder.decode(z).clamp(-1, 1)


def _write(
    done: Evaluation,
    rows: list[tuple[str, str]],
    run: Path,
    data: str,
    source: Source,
    autoencoder: LatentAutoencoder,
) -> None:
    r, config = done.reconstruction, to_plain(autoencoder.config)
    report = Report(
        "What comes back",
        f"{run.resolve().name} on {source.name}: a picture becomes {autoencoder.channels} numbers for every "
        f"{autoencoder.factor} x {autoencoder.factor} pixels; here is what is left of it.",
        {"data": data, "pictures": f"{r.n:,}", "size": f"{r.side[1]} x {r.side[0]}"},
    )
    ranked = sorted(done.psnr, key=lambda i: -done.psnr[i])
    k = min(SHOWN, len(ranked) // 2)
    middle = max(0, len(ranked) // 2 - k // 2)
    columns = k if r.side[0] <= 256 else 2
    report.lead.compare(
        *_pairs(done, source, autoencoder, ranked[middle : middle + k]),
        columns=columns,
        caption="Around the median PSNR",
    )
    report.tile("PSNR", f"{r.psnr.mean:.2f}", f"± {r.psnr.std:.2f}, N = {r.n:,}", unit="dB")
    report.tile("SSIM", f"{r.ssim.mean:.3f}", f"± {r.ssim.std:.3f}, N = {r.n:,}")
    report.tile(r.distance, f"{r.perceptual.mean:.3f}", f"± {r.perceptual.std:.3f}, N = {r.n:,}")
    report.tile("R-FD (lite0)", f"{r.frechet:.1f}", f"N = {r.n:,}; no FID")
    report.section("The best").compare(*_pairs(done, source, autoencoder, ranked[:k]), columns=columns)
    report.section("The worst").compare(*_pairs(done, source, autoencoder, ranked[::-1][:k]), columns=columns)
    ordered = [done.psnr[i] for i in ranked]
    report.section("All pictures").figures(
        [
            histogram(
                {"pictures": ordered},
                title="PSNR of each picture",
                xlabel="dB",
                marks={"mean": r.psnr.mean},
            )
        ]
    ).table(["", "found"], rows)
    report.section("How this was measured").text(r.protocol).details("Config of the autoencoder", config)
    record: dict[str, Any] = {
        "run": str(run),
        "data": data,
        "fingerprint": source.fingerprint(),
        "autoencoder": weights_hash(autoencoder),
        "calotype": __version__,
        "reconstruction": to_plain(r),
        "latents": to_plain(done.latents),
    }
    done.out.mkdir(parents=True, exist_ok=True)
    write_json(done.out / "scores.json", record)
    report.save(done.out / "report.html")


def _pairs(
    done: Evaluation, source: Source, autoencoder: LatentAutoencoder, rows: list[int]
) -> tuple[dict[str, list[Tensor]], list[str]]:
    """Originals and reconstructions of these pictures, read anew, with names and PSNR."""
    side = done.reconstruction.side[0]
    device = next(autoencoder.parameters()).device
    originals, back = [], []
    for _, x in _batches(Subset(source, rows, source.name), side, Bad(source.total)):
        with torch.no_grad():
            y = _decoded(autoencoder, autoencoder.encode(x.to(device))).cpu()
        originals += [*x]
        back += [*y]
    captions = [f"{source.key(i)}, {done.psnr[i]:.1f} dB" for i in rows]
    return {"original": originals, "reconstruction": back}, captions


def _print(rows: list[tuple[str, str]], done: Evaluation) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows:
        shown.add_row(Text(name), Text(value))
    console().print(shown)
    console().print(f"see {done.out / 'report.html'}", markup=False)

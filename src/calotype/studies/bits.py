"""What was found about bits, in tables, drawings and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image as PILImage

from calotype.data.loader import pictures
from calotype.data.source import Source
from calotype.evaluation.rate_distortion import RateDistortion
from calotype.generation.images import grid
from calotype.jobs.rate_distortion import Coded, received
from calotype.jobs.report import few
from calotype.model import LatentDiffusion
from calotype.report.plots import Plot, Point, trade_off
from calotype.studies.border import SETTLED, at_rate, perceived, rates, reached, settled
from calotype.studies.table import Table

RATES = (1 / 512, 1 / 128, 1 / 32, 1 / 8, 1 / 2)
"""Bits per number at which it is shown and told what has arrived: 3, 12, 48, 192 and 768 bytes of a 64 x 64 picture."""

FIRST = 2.0**-11
"""Bits per number before which a logarithmic axis shows nothing: less than a byte of a 64 x 64 picture."""

SHOWN = 4
"""Pictures in a sheet."""

DDPM = (
    (1.77581, 0.95136),
    (0.11994, 12.02277),
    (0.05415, 18.47482),
    (0.02866, 24.43656),
    (0.01507, 30.80948),
    (0.00716, 38.03236),
    (0.00282, 46.12765),
    (0.00081, 54.18826),
    (0.00013, 60.97170),
)
"""(bits per number, RMSE) of Ho et al. 2020, https://arxiv.org/abs/2006.11239, table 4: CIFAR-10, 32 x 32."""


@dataclass(frozen=True)
class Row:
    """A model and what was found of it.

    Args:
        name: of its run.
        notes: what its training wrote down ("steps", "seconds", "data"); perhaps nothing.
        found: the measurements.
    """

    name: str
    notes: dict[str, object]
    found: Coded


def border_level(rows: list[Row]) -> float | None:
    """The perceptual distance of the reconstructions of the first autoencoder among the runs; None if all are of
    pixels."""
    stages = [row.found.first_stage for row in rows if row.found.first_stage]
    return stages[0].perceptual.mean if stages else None


def border(row: Row, level: float | None) -> float | None:
    """Bits per number before the border; None where there is none, the model never comes to it, or it is what the
    model's own first stage leaves, which is come to in the limit only."""
    own = row.found.first_stage
    if level is None or (own is not None and own.perceptual.mean == level):
        return None
    return reached(row.found.curve, level)


MEASURED = (0, 2, 5, 6, 8, 9, 10, 11)
"""Columns of `table` that fit on a terminal."""


def table(rows: list[Row], level: float | None) -> Table:
    """Bits per number of the picture, and what they buy, model by model; first stages by themselves below."""
    head = ["", "steps", "prior + terms", "readout", "bound", "rate", "RMSE", "PSNR", "perceptual"]
    head += [f"{SETTLED:.0%} of the fall after", "border after", "bits behind it"]
    body = []
    for row in rows:
        curve, bound = row.found.curve, row.found.bound
        rate, after = curve.rate[-1], border(row, level)
        body.append(
            [
                row.name,
                str(row.notes.get("steps", "-")),
                f"{bound.prior.mean + bound.terms.mean:.3f} ±{bound.terms.error:.3f}",
                f"{bound.readout.mean:.3f}" if bound.discrete else "-",
                f"{bound.total.mean:.3f} ±{bound.total.error:.3f}" if bound.discrete else "-",
                f"{rate.mean:.3f} ±{rate.error:.3f}",
                f"{curve.rmse[-1]:.2f}",
                f"{curve.psnr[-1].mean:.2f}",
                f"{perceived(curve)[-1]:.4f}",
                f"{settled(curve):.3f}",
                "-" if after is None else f"{after:.3f}",
                "-" if after is None else f"{1 - after / rate.mean:.0%}",
            ]
        )
    for row in rows:
        stage = row.found.first_stage
        if stage is not None:
            alone = "-" if stage.rate is None else f"{stage.rate:.3f}"
            scores = [f"{stage.rmse:.2f}", f"{stage.psnr.mean:.2f}", f"{stage.perceptual.mean:.4f}"]
            body.append([f"first stage of {row.name}", "-", "-", "-", "-", alone, *scores, "-", "-", "-"])
    return Table(head, body)


def curve_table(rows: list[Row]) -> Table:
    """RMSE and perceptual distance of what has arrived at `RATES`."""
    height, width = rows[0].found.curve.side
    head = ["bits per number", "bytes"] + [f"{row.name}: {what}" for row in rows for what in ("RMSE", "perceptual")]
    body = []
    for rate in RATES:
        cells = [f"1/{1 / rate:.0f}", f"{rate * 3 * height * width / 8:.0f}"]
        for row in rows:
            for values, digits in ((row.found.curve.rmse, 1), (perceived(row.found.curve), 3)):
                value = at_rate(rates(row.found.curve), values, rate)
                cells.append("-" if value is None else f"{value:.{digits}f}")
        body.append(cells)
    return Table(head, body)


def flow_table(rows: list[Row]) -> Table:
    """Likelihood and bound of dequantised pictures, for the models that they were measured of."""
    head = ["", "pictures", "flow, bits per number", "bound", "bound - flow"]
    body = []
    for row in rows:
        flow = row.found.flow
        if flow is not None:
            estimates = (flow.likelihood, flow.bound, flow.above)
            body.append([row.name, str(flow.above.n), *(f"{e.mean:.3f} ±{e.error:.3f}" for e in estimates)])
    return Table(head, body)


def drawings(rows: list[Row], level: float | None) -> dict[str, Plot]:
    """File name -> drawing: rate against distortions, with each first stage as a mark; where along log-SNR bits are
    spent."""
    rmse = {row.name: _points(row.found.curve, row.found.curve.rmse) for row in rows}
    perceptual = {row.name: _points(row.found.curve, perceived(row.found.curve)) for row in rows}
    for row in rows:
        stage = row.found.first_stage
        if stage is not None and stage.rate is not None:
            rmse[f"first stage of {row.name}"] = [Point(stage.rate, stage.rmse)]
            perceptual[f"first stage of {row.name}"] = [Point(stage.rate, stage.perceptual.mean)]
    after = [rate for rate in (border(row, level) for row in rows) if rate is not None]
    marks = {"the first stage's distance": after[0]} if after else {}
    label = rows[0].found.curve.distance or ""
    late = {name: [p for p in points if p.x >= FIRST] for name, points in perceptual.items()}
    return {
        "rate-rmse": trade_off(
            rmse | {"DDPM, CIFAR-10": [Point(r, d) for r, d in DDPM]},
            title="Rate and error",
            xlabel="bits per number",
            ylabel="RMSE, 0 ... 255",
            marks=marks,
        ),
        "rate-perceptual": trade_off(
            perceptual, title="Rate and perceptual distance", xlabel="bits per number", ylabel=label, marks=marks
        ),
        "rate-perceptual-log": trade_off(
            late,
            title="Rate and perceptual distance, the first bits",
            xlabel="bits per number",
            ylabel=label,
            log_x=True,
            marks=marks,
        ),
        "spent": trade_off(
            {
                row.name: [
                    Point(logsnr, 100 * rate / rates(row.found.curve)[-1])
                    for logsnr, rate in zip(row.found.logsnr, rates(row.found.curve), strict=True)
                ]
                for row in rows
            },
            title="When bits are spent",
            xlabel="log-SNR",
            ylabel="% of the rate",
        ),
    }


def sheet(row: Row, model: LatentDiffusion, source: Source, seed: int) -> PILImage.Image:
    """Held-out pictures, one per row: what has arrived at `RATES`, then the picture."""
    curve = row.found.curve
    arrived = [(rate, at_rate(rates(curve), curve.times, rate)) for rate in RATES]
    times = {rate: t for rate, t in arrived if t is not None}
    batch = next(pictures(few(source, SHOWN), model.side, SHOWN))
    x, index = batch["image"], batch["index"].tolist()
    shown = [*received(model, x, index, torch.tensor([*times.values()], dtype=torch.float64), seed), x]
    size = 3 * curve.side[0] * curve.side[1] / 8
    texts = [*(f"{rate * size:.0f} bytes" for rate in times), "original"]
    return grid(
        torch.stack(shown, 1).flatten(0, 1),
        columns=len(shown),
        captions=texts * len(x),
        cell=128,
        title=f"What has arrived: {row.name}",
    )


def _points(curve: RateDistortion, values: Sequence[float]) -> list[Point]:
    return [Point(rate, value) for rate, value in zip(rates(curve), values, strict=True)]

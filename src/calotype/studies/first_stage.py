"""Table 8 of latent diffusion in small: every factor, with a Gaussian and with a quantised bottleneck."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from calotype.autoencoder.bottleneck.base import BottleneckConfig
from calotype.autoencoder.bottleneck.gaussian import GaussianConfig
from calotype.autoencoder.bottleneck.vector_quantized import MovingAverage, VectorQuantizedConfig
from calotype.autoencoder.latent import LatentAutoencoderConfig
from calotype.console import console
from calotype.data.folder import open_source
from calotype.data.loader import pictures
from calotype.data.subset import Subset
from calotype.files import write_json
from calotype.generation.images import grid, save_png
from calotype.jobs.evaluate import Evaluation, evaluate
from calotype.jobs.report import minutes
from calotype.jobs.train import train_autoencoder
from calotype.model import load_autoencoder, model_folder
from calotype.nn.encoder_decoder import EncoderDecoderConfig
from calotype.recipes import get
from calotype.registry import to_plain
from calotype.report.html import Report
from calotype.report.plots import Plot, Point, trade_off
from calotype.runs import AutoencoderRun
from calotype.studies.base import claim, studies
from calotype.studies.table import Table

TRAINING, HELD_OUT = "embedded:mixed/train", "embedded:mixed/val"

MULTIPLIERS = {2: (1, 2), 4: (1, 2, 4), 8: (1, 2, 4, 8), 16: (1, 2, 4, 8, 8), 32: (1, 2, 4, 8, 8, 8)}
"""Widths of the levels by factor, in units of the base width."""

CHANNELS = {"KL": {2: 2, 4: 3, 8: 4, 16: 16, 32: 64}, "VQ": {2: 2, 4: 3, 8: 4, 16: 8, 32: 16}}
"""Latent channels, as in the paper's table."""


@dataclass(frozen=True)
class Published:
    """A row of Rombach et al. 2022, https://arxiv.org/abs/2112.10752, table 8: trained on OpenImages at 256 pixels with
    networks eight times as wide, measured on the validation set of ImageNet.

    Args:
        fid: R-FID, by Inception features.
        psnr: dB.
        psim: perceptual similarity; its exact definition was not published.
        ssim: at most 1.
    """

    fid: float
    psnr: float
    psim: float
    ssim: float


PUBLISHED = {
    ("KL", 2): Published(0.086, 32.47, 0.20, 0.93),
    ("KL", 4): Published(0.27, 27.53, 0.55, 0.82),
    ("KL", 8): Published(0.90, 24.19, 1.02, 0.69),
    ("KL", 16): Published(0.87, 24.08, 1.07, 0.68),
    ("KL", 32): Published(2.04, 22.27, 1.41, 0.61),
    ("VQ", 2): Published(0.16, 30.85, 0.27, 0.91),
    ("VQ", 4): Published(0.58, 27.43, 0.53, 0.82),
    ("VQ", 8): Published(1.14, 23.07, 1.17, 0.65),
    ("VQ", 16): Published(5.15, 20.83, 1.73, 0.54),
    ("VQ", 32): Published(31.83, 17.45, 2.58, 0.41),
}
"""By bottleneck and factor, for the channels of `CHANNELS`; |Z| is 2048, 8192, 16384, 16384, 16384 there."""


@dataclass(frozen=True)
class Row:
    """One autoencoder of the sweep.

    Args:
        kind: "KL" or "VQ".
        factor: f.
        found: what was measured.
        seconds: of training.
        run: its folder.
    """

    kind: str
    factor: int
    found: Evaluation
    seconds: float
    run: Path


@studies.register("first-stage")
@dataclass(frozen=True)
class FirstStage:
    """What compression costs: factors 2 to 32, Gaussian and quantised, trained alike on the same pictures.

    The counterpart of Rombach et al. 2022, https://arxiv.org/abs/2112.10752, table 8, with the published rows beside:
    the same bottlenecks, the losses of one recipe, but pictures of 64 pixels, narrow networks and minutes of training.
    Order and slopes can be compared, levels cannot. Emoji, photographs and grey product pictures come equally often;
    measured is on held-out ones. About 40 minutes on two CPU cores.

    Args:
        steps: of each training.
        factors: which of 2, 4, 8, 16, 32.
        codes: |Z| of the quantised members; the paper's 2,048 to 16,384 are more than these sets could ever use.
        seed: of weights, order and noise.

    Raises:
        ValueError: a factor that is not among them or comes twice, a number that no run accepts.
    """

    steps: int = 1200
    factors: tuple[int, ...] = (2, 4, 8, 16, 32)
    codes: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [f for f in self.factors if f not in MULTIPLIERS]
        if unknown or not self.factors:
            raise ValueError(f"factors must be some of {', '.join(map(str, MULTIPLIERS))}, got {list(self.factors)}")
        if len(set(self.factors)) < len(self.factors):
            raise ValueError(f"factors must differ, got {list(self.factors)}")
        for _ in self.members():  # what a run would refuse is refused before the first one has taken its minutes
            pass

    def run(self, out: Path) -> Path:
        """Train and measure; returns OUT/report.html."""
        claim(out, self, free=("factors",))  # trained for other steps, its runs would go on instead of starting anew
        members = list(self.members())
        rows = []
        for k, (kind, factor, config) in enumerate(members, 1):
            name = f"{kind.lower()}-f{factor}"
            console().print(f"[bold]{name}[/] ({k} of {len(members)})")
            stage = train_autoencoder(config, out / name)
            found = evaluate(out / name, HELD_OUT)
            rows.append(Row(kind, factor, found, stage.result.seconds, out / name))
        return self._write(out, rows)

    def members(self) -> Iterator[tuple[str, int, AutoencoderRun]]:
        """(bottleneck, factor, its run), Gaussian first."""
        base: AutoencoderRun = get(None, "autoencoder").build()
        trainer = replace(base.trainer, steps=self.steps, seed=self.seed, preview_every=max(1, self.steps // 3))
        data = replace(base.data, source=TRAINING, balance=1.0, held_out=0.0)
        for kind, channels in CHANNELS.items():
            for factor in self.factors:
                c = channels[factor]
                network = EncoderDecoderConfig(
                    channels=base.autoencoder.network.channels,
                    multipliers=MULTIPLIERS[factor],
                    blocks=base.autoencoder.network.blocks,
                    z_channels=c,
                )
                autoencoder = LatentAutoencoderConfig(c, network, self._bottleneck(kind))
                yield kind, factor, replace(base, data=data, trainer=trainer, autoencoder=autoencoder)

    def _bottleneck(self, kind: str) -> BottleneckConfig:
        members: dict[str, BottleneckConfig] = {
            "KL": GaussianConfig(weight=1e-6),
            "VQ": VectorQuantizedConfig(size=self.codes, learning=MovingAverage(), revive=0.1),
        }
        return members[kind]

    def _write(self, out: Path, rows: list[Row]) -> Path:
        plots = drawings(rows)
        for name, plot in plots.items():
            plot.save_png(out / f"{name}.png")
        x, names, back = _examples(rows)
        save_png(
            grid(torch.cat([x, *back]), columns=len(x), cell=96, title=f"originals, then {', '.join(names)}"),
            out / "reconstructions.png",
        )
        found = table(rows)
        found.save(out / "table.md")
        write_json(
            out / "scores.json",
            {
                "study": to_plain(self),
                "rows": [
                    {
                        "bottleneck": row.kind,
                        "factor": row.factor,
                        "seconds": row.seconds,
                        "reconstruction": to_plain(row.found.reconstruction),
                        "latents": to_plain(row.found.latents),
                    }
                    for row in rows
                ],
            },
        )
        first = rows[0].found.reconstruction
        report = Report(
            "What compression costs",
            "Autoencoders of every factor, trained alike. Above, held-out pictures and what each brings back.",
            {
                "pictures": f"{first.n} of {first.side[1]} x {first.side[0]}",
                "steps": f"{self.steps:,} each",
                "training": minutes(sum(row.seconds for row in rows)),
            },
        )
        report.lead.pictures(x, columns=len(x), caption="Originals")
        for name, y in zip(names, back, strict=True):
            report.lead.pictures(y, columns=len(x), caption=name)
        report.section("Rate and distortion").figures(plots.values())
        report.section(
            "The table",
            "On the right the published figures of the same bottleneck and factor, from other data, other networks and "
            "other feature networks: compare the order, not the level.",
        ).table(found.head, found.body)
        report.section("How this was measured").text(first.protocol).details("The study", to_plain(self))
        report.save(out / "report.html")
        found.show(MEASURED)
        return out / "report.html"


MEASURED = (0, 1, 2, 4, 5, 6, 7, 8, 9)
"""Columns of `table` that fit on a terminal."""


def table(rows: list[Row]) -> Table:
    """What was measured, then what the paper says."""
    head = ["bottleneck", "f", "c", "|Z|", "bits/pixel", "R-FD", "PSNR", "perceptual", "SSIM", "codes used", "std z"]
    head += ["LDM: R-FID", "PSNR", "PSIM", "SSIM"]
    body = []
    for row in rows:
        r, z, p = row.found.reconstruction, row.found.latents, PUBLISHED[row.kind, row.factor]
        book = z.codebook
        body.append(
            [
                row.kind,
                str(row.factor),
                str(z.channels),
                f"{book.size}" if book else "-",
                "-" if z.bits_per_pixel is None else f"{z.bits_per_pixel:.3g}",
                f"{r.frechet:.1f}",
                f"{r.psnr.mean:.2f} ±{r.psnr.std:.2f}",
                f"{r.perceptual.mean:.3f} ±{r.perceptual.std:.3f}",
                f"{r.ssim.mean:.3f} ±{r.ssim.std:.3f}",
                f"{book.used / book.size:.0%}" if book else "-",
                f"{math.sqrt(sum(s * s for s in z.std) / len(z.std)):.2f}",
                f"{p.fid:g}",
                f"{p.psnr:.2f}",
                f"{p.psim:.2f}",
                f"{p.ssim:.2f}",
            ]
        )
    return Table(head, body)


def drawings(rows: list[Row]) -> dict[str, Plot]:
    """File name -> rate (latent bits per pixel) against a distortion."""
    scores = [row.found.reconstruction for row in rows]
    wanted = {
        "rate-psnr": ("Rate and PSNR", "PSNR, dB", [r.psnr.mean for r in scores]),
        "rate-perceptual": ("Rate and perceptual distance", scores[0].distance, [r.perceptual.mean for r in scores]),
        "rate-rfd": ("Rate and R-FD", "R-FD (lite0)", [r.frechet for r in scores]),
    }
    return {name: _drawing(rows, *what) for name, what in wanted.items()}


def _drawing(rows: list[Row], title: str, label: str, values: list[float]) -> Plot:
    series: dict[str, list[Point]] = {}
    for row, value in zip(rows, values, strict=True):
        rate = row.found.latents.bits_per_pixel
        point = Point(math.nan if rate is None else rate, value, f"f = {row.factor}")
        series.setdefault(row.kind, []).append(point)
    return trade_off(series, title=title, xlabel="bits per pixel", ylabel=label, log_x=True)


@torch.no_grad()
def _examples(rows: list[Row]) -> tuple[Tensor, list[str], list[Tensor]]:
    """Nine held-out pictures, three of each kind; the members' names; what each member makes of the pictures."""
    source = open_source(HELD_OUT)
    labels = source.labels()
    chosen = []
    for kind in range(len(source.classes)):
        mine = [i for i, label in enumerate(labels) if label == kind]
        chosen += [mine[len(mine) * k // 3 + len(mine) // 6] for k in range(3)]
    side = rows[0].found.reconstruction.side[0]
    x = torch.cat([batch["image"] for batch in pictures(Subset(source, chosen, "examples"), side)])
    names, back = [], []
    for row in rows:
        autoencoder = load_autoencoder(model_folder(row.run))
        names.append(f"{row.kind} f = {row.factor}")
        back.append(autoencoder.decode(autoencoder.encode(x)).clamp(-1, 1))
    return x, names, back

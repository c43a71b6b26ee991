"""How much noise pictures of a size need: the schedule shift and the multi-scale loss of simple diffusion, in small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage
from torch.nn import functional as F

from calotype.conditioning.class_label import ClassLabelConfig
from calotype.console import console
from calotype.data.folder import open_source
from calotype.data.loader import pictures
from calotype.diffusion.curves import Cosine, Curve, Shifted
from calotype.diffusion.distance import Distance, MeanSquare, MultiScale
from calotype.diffusion.grids import UniformGrid
from calotype.diffusion.guidance import ClassifierFree, DynamicThreshold
from calotype.diffusion.objective import Objective
from calotype.diffusion.samplers import DPMpp2M
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.weighting import UniformVelocity
from calotype.evaluation.runner import Spread, score_generation
from calotype.files import read_tensors, write_json, write_tensors
from calotype.generation.generate import Plan
from calotype.generation.images import grid, save_png
from calotype.jobs.report import examples, minutes, sample_images
from calotype.jobs.train import train_diffusion
from calotype.model import LatentDiffusion, model_folder
from calotype.nn.stem import Wavelet
from calotype.recipes import get
from calotype.registry import to_plain
from calotype.report.html import Report
from calotype.report.plots import Plot, Point, histogram, trade_off
from calotype.rng import SampleNoise, fold
from calotype.runs import DataConfig, DiffusionRun
from calotype.studies.base import claim, remembered, studies
from calotype.studies.table import Table

TRAINING, HELD_OUT = "embedded:fashion/train", "embedded:fashion/val"

SHAPES: dict[int, dict[str, Any]] = {
    64: {"channels": 64, "multipliers": (1, 2), "blocks": (1, 3)},
    128: {"channels": 48, "multipliers": (1, 1, 2), "blocks": (1, 1, 3)},
}
"""Of the network by side. A wavelet of two levels comes first, and a transformer at 8 x 8 last.
At 128 a third level of the wavelet would be cheaper, but makes 192 numbers of each place, more than the first maps have
channels: noise that does not fit through them cannot be told from the picture."""

COARSE = 16
"""Pixels of the side to which errors are averaged to see what the model knows of the picture as a whole."""

BATCH = 16
"""Pictures per step: early in a training many small steps take it further than few large ones of the same cost."""

LEVELS = (-7.0, -5.5, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0)
"""The log-SNR at which errors are measured: between the ends of every member's schedule."""

SHOWN = 8
"""Samples of each member in the sheets."""


@dataclass(frozen=True)
class Member:
    """One training.

    Args:
        side: of the pictures.
        reference: the side for which the schedule is left as it is; None for no shift at all.
        multi_scale: whether the loss is the multi-scale one.
    """

    side: int
    reference: int | None
    multi_scale: bool

    @property
    def name(self) -> str:
        """Of its folder."""
        shift = "plain" if self.reference is None else f"shift{self.reference}"
        return f"{self.side}-{shift}{'-multiscale' if self.multi_scale else ''}"

    @property
    def schedule(self) -> str:
        """In words."""
        return "cosine" if self.reference is None else f"shifted from {self.reference}"

    @property
    def label(self) -> str:
        """In words, without the side."""
        return self.schedule + (", multi-scale" if self.multi_scale else "")

    @property
    def curve(self) -> Curve:
        """Of its schedule."""
        return Cosine() if self.reference is None else Shifted.by_side(Cosine(), self.side, self.reference)

    @property
    def distance(self) -> Distance:
        """Of its loss."""
        return MultiScale() if self.multi_scale else MeanSquare()


@dataclass(frozen=True)
class Found:
    """What was measured of one member.

    Args:
        n: pictures on each side of every Fréchet distance.
        frechet: FD-lite0 of samples against real pictures.
        floor: that of real pictures against others.
        whole, whole_floor: the same after all pictures are averaged to `COARSE` pixels: shape without grain.
        errors: mean squared error of x_0_hat for held-out pictures, by `LEVELS`.
        coarse: the same after both are averaged to `COARSE` pixels.
        seconds: of training.
        protocol: how FD-lite0 was measured.
    """

    n: int
    frechet: Spread
    floor: Spread
    whole: Spread
    whole_floor: Spread
    errors: tuple[float, ...]
    coarse: tuple[float, ...]
    seconds: float
    protocol: str


@studies.register("schedule-shift")
@dataclass(frozen=True)
class ScheduleShift:
    """What noise a size needs: pixels at 64 and 128, with and without a shifted schedule and the multi-scale loss.

    The counterpart of Hoogeboom et al. 2023, https://arxiv.org/abs/2301.11093, tables 1 and 2: one U-ViT on pixels, one
    recipe, as many steps, pictures and network operations for every member of a size (128 costs twice what 64
    does). "Shifted from 32" is a schedule that suits 32 x 32 and is moved by 2 log(32 / side) in log-SNR. Clothes
    by class, sampled without guidance by the same solver with steps equally far apart in time, predictions clipped to
    the range of pixels. The clothes have 28 pixels of their own and are enlarged, so what a shift makes up for, that
    neighbouring pixels tell of one another, is there by construction. About 50 minutes on one CPU core.

    Args:
        steps: of each training, with 16 pictures each.
        sides: which sizes, of 64 and 128.
        references: sides to shift from, besides no shift; the pictures' own side is left out, where nothing would move.
        samples: pictures per member that FD-lite0 is measured on; at most half the set is used.
        solver_steps: network calls per sample.
        seed: of weights, order and noise.

    Raises:
        ValueError: sides other than 64 and 128 or twice the same, references that are not positive, numbers that no run
            accepts.
    """

    steps: int = 2000
    sides: tuple[int, ...] = (64, 128)
    references: tuple[int, ...] = (32,)
    samples: int = 256
    solver_steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sides or len(set(self.sides)) < len(self.sides) or not SHAPES.keys() >= {*self.sides}:
            raise ValueError(f"sides must be some of 64 and 128, each once, got {list(self.sides)}")
        if len(set(self.references)) < len(self.references) or any(not 1 <= r <= 1024 for r in self.references):
            raise ValueError(f"references must lie in 1 ... 1024 and differ, got {list(self.references)}")
        if not SHOWN <= self.samples <= 100_000:
            raise ValueError(f"samples must lie in {SHOWN} ... 100,000, got {self.samples}")
        Plan(steps=self.solver_steps)
        for member in self.members():  # what a run would refuse is refused before the first one has taken its minutes
            self.run_of(member)

    def members(self) -> Iterator[Member]:
        """All trainings; a shift of zero is no further member."""
        for side in self.sides:
            for reference in (None, *(r for r in self.references if r != side)):
                for multi_scale in (False, True):
                    yield Member(side, reference, multi_scale)

    def run_of(self, member: Member) -> DiffusionRun:
        """What is trained: nothing but size, curve and distance differ."""
        base: DiffusionRun = get("pixel-emoji", "diffusion").build()
        trainer = replace(
            base.trainer,
            steps=self.steps,
            batch_size=BATCH,
            ema_decay=0.998,
            seed=self.seed,
            preview_every=max(1, self.steps // 2),
        )
        return replace(
            base,
            data=DataConfig(source=TRAINING, side=member.side, flip=False, crop=False, held_out=0.0),
            conditioners={"class": ClassLabelConfig(width=192)},
            network=replace(base.network, stem=Wavelet(levels=2), **SHAPES[member.side]),
            schedule=Schedule(member.curve),
            objective=Objective(UniformVelocity(), distance=member.distance),
            trainer=trainer,
            preview=replace(self.plan, batch=16),
        )

    @property
    def plan(self) -> Plan:
        """How every member is sampled."""
        clipped = ClassifierFree(1.0, threshold=DynamicThreshold(largest=1.0))
        return Plan(DPMpp2M(), UniformGrid(), clipped, self.solver_steps, 64)

    def run(self, out: Path) -> Path:
        """Train and measure; returns OUT/report.html."""
        claim(out, self, free=("sides",))
        members = list(self.members())
        rows = []
        for k, member in enumerate(members, 1):
            console().print(f"[bold]{member.name}[/] ({k} of {len(members)})")
            stage = train_diffusion(self.run_of(member), out / member.name)
            measure = partial(self._measure, out / member.name, member, stage.result.seconds)
            rows.append((member, remembered(out / member.name / "found.json", Found, measure)))
        return self._write(out, rows)

    def _measure(self, run: Path, member: Member, seconds: float) -> Found:
        model = LatentDiffusion.load(model_folder(run))
        source, side = open_source(TRAINING), member.side
        wishes = examples(self.run_of(member).data, source, model.conditioner.reads, self.samples).wishes
        images = sample_images(
            model, wishes, self.plan, self.samples, seed=self.seed, what=f"sampling {self.samples} pictures to measure"
        )
        shown = [k * self.samples // SHOWN for k in range(SHOWN)]
        write_tensors(run / "shown.safetensors", {"images": images[shown]})
        real = torch.cat([batch["image"] for batch in pictures(open_source(HELD_OUT), side)])
        scores = score_generation(images, real, seed=self.seed, pictures=f"held-out pictures of {HELD_OUT}")
        small, real = (F.avg_pool2d(x, side // COARSE) for x in (images, real))
        whole = score_generation(small, real, seed=self.seed)
        errors, coarse = _errors(model, self.seed)
        protocol = f"{scores.protocol} FD of the whole: the same of pictures averaged to {COARSE} x {COARSE}."
        return Found(
            scores.n, scores.frechet, scores.floor, whole.frechet, whole.floor, errors, coarse, seconds, protocol
        )

    def _write(self, out: Path, rows: list[tuple[Member, Found]]) -> Path:
        plots = drawings(rows)
        for name, plot in plots.items():
            plot.save_png(out / f"{name}.png")
        sheets = {side: self._sheet(out, [m for m, _ in rows if m.side == side]) for side in self.sides}
        for side, sheet in sheets.items():
            save_png(sheet, out / f"samples-{side}.png")
        noised = noised_pictures(max(self.sides), self.references, self.seed)
        save_png(noised, out / "noised.png")
        found = table(rows)
        found.save(out / "table.md")
        write_json(
            out / "scores.json",
            {"study": to_plain(self), "rows": [{"member": to_plain(m), "found": to_plain(f)} for m, f in rows]},
        )
        first = rows[0][1]
        report = Report(
            "How much noise a size needs",
            "One network on pixels, trained alike but for schedule and loss. Below, samples without guidance for the "
            "same classes and noise.",
            {
                "training": minutes(sum(f.seconds for _, f in rows)),
                "steps": f"{self.steps:,} of {BATCH} pictures each",
                "samples": f"{first.n} against {first.n}",
                "real against real": f"{first.floor.mean:.1f}, of the whole {first.whole_floor.mean:.1f}",
            },
        )
        for side, sheet in sheets.items():
            report.lead.pictures([sheet], columns=1, caption=f"{side} x {side}")
        report.section(
            "What is trained on",
            "Shares of the training at each log-SNR. Pixels twice as fine hide as much of the noise as 1.39 of it.",
        ).figures([plot for name, plot in plots.items() if name.startswith("logsnr")])
        report.section("The same noise at another size").pictures(
            [noised], columns=1, caption="Noised at equal times, then averaged to 32 x 32"
        )
        report.section("The table").table(found.head, found.body)
        report.section(
            "Errors on held-out pictures",
            f"Mean squared error of the prediction of x_0, and of its average to {COARSE} x {COARSE}: what the model "
            "knows of the whole.",
        ).figures([plot for name, plot in plots.items() if name.startswith("error")])
        report.section("How this was measured").text(first.protocol).details("The study", to_plain(self))
        report.save(out / "report.html")
        found.show()
        return out / "report.html"

    def _sheet(self, out: Path, members: list[Member]) -> PILImage.Image:
        """Samples, a row per member."""
        rows = [read_tensors(out / m.name / "shown.safetensors")["images"] for m in members]
        return grid(torch.cat(rows), columns=SHOWN, cell=128, title="; ".join(m.label for m in members))


@torch.no_grad()
def _errors(model: LatentDiffusion, seed: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean squared errors of x_0_hat on held-out pictures, with their classes, by `LEVELS`: of all pixels, and of
    averages over squares."""
    schedule, source = model.denoiser.schedule, open_source(HELD_OUT)
    total = torch.zeros(2, len(LEVELS), dtype=torch.float64)
    for batch in pictures(source, model.side, 64):
        x, rows = batch["image"], batch["index"].tolist()
        noise = SampleNoise([fold(seed, "error", int(i)) for i in rows])
        cond = model.condition({k: batch[k] for k in model.conditioner.reads if k in batch}, len(x))
        eps = noise(x)
        for k, level in enumerate(LEVELS):
            t = schedule.time(torch.full((len(x),), level, dtype=torch.float64))
            away = model.denoiser(schedule.perturb(x, eps, t), t, cond) - x
            coarse = F.avg_pool2d(away, model.side // COARSE)
            total[0, k] += away.square().flatten(1).mean(1).double().sum()
            total[1, k] += coarse.square().flatten(1).mean(1).double().sum()
    total /= len(source)
    return tuple(total[0].tolist()), tuple(total[1].tolist())


def table(rows: list[tuple[Member, Found]]) -> Table:
    """FD-lite0 and errors, member by member."""
    whole = (LEVELS.index(-5.5), LEVELS.index(-3.0), LEVELS.index(0.0))
    head = ["side", "schedule", "loss", "shift", "FD-lite0", "FD of the whole"]
    head += [f"error at {LEVELS[k]:g}" for k in whole]
    body = []
    for member, found in rows:
        shift = member.curve.logsnr(torch.tensor(0.5, dtype=torch.float64))  # cosine passes zero there
        body.append(
            [
                str(member.side),
                member.schedule,
                "multi-scale" if member.multi_scale else "plain",
                f"{float(shift):.2f}",
                f"{found.frechet.mean:.1f} ±{found.frechet.std:.1f}",
                f"{found.whole.mean:.1f} ±{found.whole.std:.1f}",
                *(f"{found.coarse[k]:.4f}" for k in whole),
            ]
        )
    return Table(head, body)


def drawings(rows: list[tuple[Member, Found]]) -> dict[str, Plot]:
    """File name -> drawing: for each side the log-SNR that is trained on, and the errors of plain-loss members."""
    u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    plots = {}
    for side in dict.fromkeys(member.side for member, _ in rows):
        mine = [(m, f) for m, f in rows if m.side == side]
        plain = [(m, f) for m, f in mine if not m.multi_scale]
        plots[f"logsnr-{side}"] = histogram(
            {m.schedule: Schedule(m.curve).logsnr(u).tolist() for m, _ in plain},
            title=f"What is trained on, {side} x {side}",
            xlabel="log-SNR",
            bins=40,
        )
        plots[f"error-{side}"] = trade_off(
            {m.schedule: [Point(level, e) for level, e in zip(LEVELS, f.coarse, strict=True)] for m, f in plain},
            title=f"Error of the whole, {side} x {side}",
            xlabel="log-SNR",
            ylabel=f"MSE of x_0 at {COARSE} x {COARSE}",
        )
    return plots


def noised_pictures(side: int, references: tuple[int, ...], seed: int) -> PILImage.Image:
    """One picture, noised at times 0.1 ... 0.9 and averaged to 32 x 32; a row per schedule, and
    first one of 32 pixels by the cosine schedule: what the others should look like."""
    x = next(pictures(open_source(TRAINING), side, 1))["image"]
    small = F.avg_pool2d(x, side // 32)
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    members = [Member(side, r, False) for r in (None, *(r for r in references if r != side))]
    rows = [(small, Schedule(Cosine())), *((x, Schedule(m.curve)) for m in members)]
    sheet = []
    for picture, schedule in rows:
        z = SampleNoise.range(seed, 9, 0)
        clean = picture.expand(9, *picture.shape[1:])
        noised = schedule.perturb(clean, z.initial(tuple(picture.shape[1:]), clean.device), t)
        sheet.append(F.avg_pool2d(noised, picture.shape[-1] // 32).clamp(-1, 1))
    names = ", ".join(["32 x 32 cosine", *(f"{side} x {side} {m.schedule}" for m in members)])
    return grid(torch.cat(sheet), columns=9, cell=64, title=names)

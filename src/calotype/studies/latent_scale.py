"""Latents of other scales, and pictures beyond the size of training: LDM's appendix D.1 in small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from calotype.autoencoder.latent import LatentAutoencoder
from calotype.console import console, counting
from calotype.data.folder import open_source
from calotype.data.source import Source
from calotype.diffusion.guidance import Unguided
from calotype.errors import UserError
from calotype.evaluation.features import Lite0, extract
from calotype.evaluation.frechet import Moments, frechet_distance
from calotype.files import write_json
from calotype.generation.generate import Plan, generate
from calotype.generation.images import grid, save_png
from calotype.generation.wishes import area_picture
from calotype.jobs.report import examples, few, minutes
from calotype.jobs.train import train_autoencoder, train_diffusion
from calotype.model import LatentDiffusion, load_autoencoder, model_folder, save_autoencoder
from calotype.recipes import get
from calotype.registry import to_plain
from calotype.report.html import Report
from calotype.report.plots import Plot, Point, trade_off
from calotype.runs import AutoencoderRun, DiffusionRun
from calotype.runtime import best_device
from calotype.studies.base import claim, remembered, studies
from calotype.studies.table import Table

TRAINING, HELD_OUT, HELD = "embedded:scenes/train", "embedded:scenes/val", 512

SIDE = 64

TIMES = 2
"""How many scenes high and wide the larger pictures are."""

SHOWN = 4
"""Larger pictures on the sheet."""


@dataclass(frozen=True)
class Found:
    """What a model made.

    Args:
        std: of its latents, over all channels.
        alone: FD-lite0 of pictures of the side of training.
        quarters: FD-lite0 of the parts of larger ones, for the same label maps.
        error: mean squared error of the preview x_0 after every step against the finished latent, in units of its
            variance; pictures of the side of training.
        seconds: of training.
    """

    std: float
    alone: float
    quarters: float
    error: tuple[float, ...]
    seconds: float


@studies.register("latent-scale")
@dataclass(frozen=True)
class LatentScaleStudy:
    """Latents of unit variance and latents k times as large: which can be sampled beyond the size of training?

    Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix D.1, figures 14 and 15: the signal-to-noise ratio
    that a denoiser meets is that of the schedule times Var(z). First stages that are hardly regularised have latents of
    a large variance, whose content is decided early in the chain, and models of them fall apart when they are sampled
    convolutionally at a larger size; divided by their standard deviation they do not. To multiply latents by k is to
    add 2 log k to log-SNR at every t.

    Two models of scenes learn to paint label maps, on latents of one first stage that differ in scale alone. Then both
    paint maps of the size of training, and maps of twice the side, put together of four; parts of those are compared
    with the same real scenes. About 25 minutes on two CPU cores, 10 less where a first stage is given.

    Args:
        scales: standard deviations of the latents.
        autoencoder: a finished run of `small-autoencoder-f4`; "" = train one.
        steps: of each model's training.
        n: scenes, a multiple of four.
        sampling: steps of DPM++(2M) on Karras's grid.
        seed: of weights, order and noise.

    Raises:
        ValueError: scales that are not positive, another n.
    """

    scales: tuple[float, ...] = (1.0, 5.0)
    autoencoder: str = ""
    steps: int = 1200
    n: int = 256
    sampling: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.scales or len({*self.scales}) < len(self.scales) or not all(0 < s < 1000 for s in self.scales):
            raise ValueError(f"scales must be different numbers in 0 ... 1000, got {list(self.scales)}")
        if self.n % TIMES**2 or not SHOWN * TIMES**2 <= self.n <= HELD:
            raise ValueError(f"n must be a multiple of {TIMES**2} in {SHOWN * TIMES**2} ... {HELD}, got {self.n}")
        self.first_stage(), self.plan, self.model_run("", "")

    @property
    def plan(self) -> Plan:
        """How is sampled."""
        return Plan(guidance=Unguided(), steps=self.sampling, batch=32)

    def first_stage(self) -> AutoencoderRun:
        """The run of the first stage."""
        base: AutoencoderRun = get("small-autoencoder-f4").build()
        data = replace(base.data, source=TRAINING, held_out=0.02)
        return replace(base, data=data, trainer=replace(base.trainer, seed=self.seed))

    def model_run(self, autoencoder: Path | str, source: str = TRAINING) -> DiffusionRun:
        """The run of a model of the latents of an autoencoder's folder."""
        base: DiffusionRun = get("small-semantic").build()
        trainer = replace(base.trainer, steps=self.steps, seed=self.seed)
        return replace(base, data=replace(base.data, source=source), autoencoder=str(autoencoder), trainer=trainer)

    def run(self, out: Path) -> Path:
        """Train, sample and measure; returns OUT/report.html."""
        claim(out, self)
        given = (
            Path(self.autoencoder)
            if self.autoencoder
            else train_autoencoder(self.first_stage(), out / "autoencoder").run
        )
        yardstick, rows = None, {}
        for scale in self.scales:
            name = f"{scale:g}"
            console().print(f"[bold]latents with a standard deviation of {name}[/]")
            latents = out / f"latents-{name}"
            if not latents.exists():
                save_autoencoder(louder(given, scale), latents, SIDE, {"latents": f"of {given}, times {name}"})
            stage = train_diffusion(self.model_run(latents), out / f"model-{name}")
            model = LatentDiffusion.load(model_folder(stage.run)).to(best_device())
            yardstick = yardstick or Scenes.of(few(open_source(HELD_OUT), self.n), model)
            measure = partial(self._measure, model, yardstick, stage.result.seconds)
            rows[scale] = remembered(stage.run / "found.json", Found, measure)
        assert yardstick is not None  # there is at least one scale
        return self._write(out, rows, yardstick)

    @torch.no_grad()
    def _measure(self, model: LatentDiffusion, scenes: Scenes, seconds: float) -> Found:
        z = torch.cat([model.autoencoder.encode(x.to(best_device())).cpu() for x in torch.split(scenes.images, 64)])
        alone, previews = [], []
        for steps in self._sampled(model, scenes.maps, SIDE):
            alone.append(steps[-1].image)
            final = steps[-1].x_0
            previews.append(torch.stack([(s.x_0 - final).square().mean() / final.var() for s in steps]))
        large = [steps[-1].image for steps in self._sampled(model, together(scenes.maps), TIMES * SIDE)]
        return Found(
            float(z.std()),
            scenes.distance(torch.cat(alone)),
            scenes.distance(apart(torch.cat(large))),
            tuple(torch.stack(previews).mean(0).tolist()),
            seconds,
        )

    def _sampled(self, model: LatentDiffusion, maps: Tensor, side: int) -> list[list[Any]]:
        """The updates of every batch, one list each."""
        done: list[list[Any]] = []
        with counting(f"painting {len(maps)} maps of {side} x {side}", len(maps) * self.sampling) as advance:
            wishes = {"label_map": [*maps]}
            for update in generate(model, wishes, self.plan, n=len(maps), seed=self.seed, height=side, width=side):
                advance(len(update.x_0))
                if update.step == 1:
                    done.append([])
                image = None if update.image is None else update.image.cpu()
                done[-1].append(replace(update, x_0=update.x_0.cpu(), image=image))
        return done

    def _write(self, out: Path, rows: dict[float, Found], scenes: Scenes) -> Path:
        found, plot = table(rows, scenes.floor), decided(rows)
        found.save(out / "table.md")
        plot.save_png(out / "decided.png")
        write_json(
            out / "scores.json",
            {"study": to_plain(self), "floor": scenes.floor, "rows": {f"{s:g}": to_plain(f) for s, f in rows.items()}},
        )
        maps = together(scenes.maps)[:SHOWN]
        shown = [area_picture(m) for m in maps]
        for scale in rows:
            model = LatentDiffusion.load(model_folder(out / f"model-{scale:g}")).to(best_device())
            shown += [x for steps in self._sampled(model, maps, TIMES * SIDE) for x in steps[-1].image]
        captions = [
            f"{what}" if k == 0 else "" for what in ["maps", *(f"std {s:g}" for s in rows)] for k in range(SHOWN)
        ]
        save_png(grid(torch.stack(shown), columns=SHOWN, captions=captions, cell=256), out / "larger.png")
        report = Report(
            "The scale of latents, and pictures beyond the size of training",
            f"Models of {SIDE} x {SIDE} pictures paint label maps of {TIMES * SIDE} x {TIMES * SIDE}.",
            {
                "training": minutes(sum(f.seconds for f in rows.values())),
                "samples": f"{self.n:,} scenes",
                "steps": f"{self.sampling} of DPM++(2M)",
            },
        )
        report.lead.pictures(torch.stack(shown), captions, columns=SHOWN)
        report.section(
            "When is what decided", "How far the preview after each step is from what it will become."
        ).figures([plot])
        report.section("The table").table(found.head, found.body)
        report.section("How this was measured").text(PROTOCOL.format(n=self.n)).details("The study", to_plain(self))
        report.save(out / "report.html")
        found.show()
        return out / "report.html"


PROTOCOL = (
    "FD-lite0 between {n:,} held-out scenes that have passed the first stage, and what was painted for their label "
    "maps: alone, and in pictures of four that are cut apart again. Real: training scenes in place of samples. The "
    "same noise for every model. Unguided."
)


@dataclass(frozen=True, eq=False)
class Scenes:
    """What is painted, and what it is compared with.

    Args:
        images: real scenes (n, 3, H, W).
        maps: their label maps (n, H, W).
        moments: of the features of the real scenes as the first stage brings them back.
        floor: FD-lite0 of as many training scenes.
    """

    images: Tensor
    maps: Tensor
    moments: Moments
    floor: float

    @classmethod
    def of(cls, source: Source, model: LatentDiffusion) -> Scenes:
        """All of a source."""
        data = get("small-semantic").build().data
        real = examples(data, source, ("label_map",), len(source))
        other = examples(data, few(open_source(TRAINING), len(source)), (), len(source)).images
        moments = Moments.of(_features(_through(model, real.images)))
        floor = frechet_distance(moments, Moments.of(_features(_through(model, other))))
        return cls(real.images, torch.stack(real.wishes["label_map"]), moments, floor)

    def distance(self, images: Tensor) -> float:
        """FD-lite0 of as many pictures."""
        return frechet_distance(self.moments, Moments.of(_features(images)))


@torch.no_grad()
def _through(model: LatentDiffusion, images: Tensor) -> Tensor:
    parts = (x.to(best_device()) for x in torch.split(images, 64))
    return torch.cat([model.decode(model.autoencoder.encode(x)).clamp(-1, 1).cpu() for x in parts])


def _features(images: Tensor) -> Tensor:
    return extract(images, Lite0(best_device()))


def louder(run: Path, scale: float) -> LatentAutoencoder:
    """The autoencoder of a run with latents of this standard deviation.

    Raises:
        UserError: it has no statistics of latents.
    """
    autoencoder = load_autoencoder(model_folder(run))
    if not isinstance(autoencoder, LatentAutoencoder):
        raise UserError(f"{run} works on pixels, which have no scale to change; name a run of a first stage")
    autoencoder.stats.set(autoencoder.stats.mean, autoencoder.stats.std / scale)
    return autoencoder


def together(maps: Tensor) -> Tensor:
    """Four after another as one: (4 n, H, W) -> (n, 2 H, 2 W)."""
    return rearrange(maps, "(n r c) h w -> n (r h) (c w)", r=TIMES, c=TIMES)


def apart(images: Tensor) -> Tensor:
    """(n, C, 2 H, 2 W) -> (4 n, C, H, W), in the order of `together`."""
    return rearrange(images, "n k (r h) (c w) -> (n r c) k h w", r=TIMES, c=TIMES)


def table(rows: dict[float, Found], floor: float) -> Table:
    """Real scenes, then a row per scale."""
    body = [["real", "-", f"{floor:.1f}", f"{floor:.1f}", "-"]]
    for scale, found in rows.items():
        half = next((k for k, e in enumerate(found.error, 1) if e < 0.5), math.inf)
        body.append([f"std {scale:g}", f"{found.std:.2f}", f"{found.alone:.1f}", f"{found.quarters:.1f}", f"{half:g}"])
    head = [
        "latents",
        "measured std",
        f"FD-lite0 at {SIDE}",
        f"FD-lite0 at {TIMES * SIDE}, cut apart",
        "half decided after",
    ]
    return Table(head, body)


def decided(rows: dict[float, Found]) -> Plot:
    """The error of the preview over the steps."""
    series: dict[str, Sequence[Point]] = {
        f"std {scale:g}": [Point(float(k), e) for k, e in enumerate(found.error, 1)] for scale, found in rows.items()
    }
    return trade_off(
        series, title="How far the preview is from the result", xlabel="steps done", ylabel="squared error / variance"
    )

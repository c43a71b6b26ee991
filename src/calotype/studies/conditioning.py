"""Eight kinds of wish on scenes whose content is known exactly: control measured, not admired."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from PIL import Image as PILImage
from torch import Tensor

from calotype.console import console
from calotype.data.folder import open_source
from calotype.files import write_json
from calotype.generation.generate import Plan
from calotype.generation.images import grid, save_png
from calotype.generation.wishes import drawings, sheet, texts
from calotype.jobs.report import minutes
from calotype.jobs.train import train_autoencoder, train_diffusion
from calotype.model import LatentDiffusion, model_folder
from calotype.recipes import get
from calotype.registry import to_plain
from calotype.report.html import Report
from calotype.report.plots import Plot, Point, trade_off
from calotype.runs import AutoencoderRun, DataConfig, DiffusionRun
from calotype.runtime import best_device
from calotype.studies.base import claim, remembered, studies
from calotype.studies.bench import Bench, completed
from calotype.studies.finding import DRAWS, Finding, Findings, compact, table
from calotype.studies.segmenter import SegmenterRun, train_segmenter
from calotype.studies.trials import JUDGE, TRIALS, Trial
from calotype.training.trainer import TrainerConfig

TRAINING, HELD_OUT, HELD = "embedded:scenes/train", "embedded:scenes/val", 512
"""What is learned, what is measured on, and how many pictures that has."""

JUDGED = 1500
"""Steps of the judge's training."""

SHOWN = 6
"""Wishes of each task that are drawn."""

FEWEST = 8
"""Pictures that a Fréchet distance and a shuffled wish can be measured with."""


@studies.register("conditioning")
@dataclass(frozen=True)
class ConditioningStudy:
    """Does a picture do what was wished for? Eight kinds of wish, each measured by what is known about the scenes.

    The conditional models of Rombach et al. 2022, https://arxiv.org/abs/2112.10752, in small: sections 4.3.1 (words,
    boxes), 4.3.2 (label maps), 4.4 (super-resolution), 4.5 (inpainting) and appendix D.6.1 (blind super-resolution),
    with drawings and variations (Ramesh et al. 2022, https://arxiv.org/abs/2204.06125) besides. Scenes are one to three
    emoji of ten classes on pieces of photographs; what is where is known to the pixel. Measured is on scenes of emoji
    and pieces of photographs that no model has seen, by a judge of our own that says of every pixel what it shows.

    Every number stands between two others: what real pictures score, passed through the same first stage, and what
    the same samples score with the wishes of one another (a permutation without fixed points). The first says what the
    judge and the first stage cost, the second what all pictures have in common. On two CPU cores two hours of training,
    five minutes for the judge and half an hour of sampling.

    Args:
        share: of the recipes' steps that every training takes; 1 trains the recipes as they are.
        n: pictures that every task is measured on.
        sampling: steps of DPM++(2M) on Karras's grid.
        scales: of classifier-free guidance, for captions; the others have the scale of their recipe.
        tasks: which of the eight; inpainting without training and the comparison of both super-resolutions need two.
        seed: of weights, order, noise and shuffling.

    Raises:
        ValueError: a share that is not positive, scales that are not or come twice, no tasks or unknown ones, a number
            of pictures that is not held out, a number that no run accepts.
    """

    share: float = 1.0
    n: int = 256
    sampling: int = 20
    scales: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    tasks: tuple[str, ...] = tuple(TRIALS)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 100:
            raise ValueError(f"share must lie in (0, 100], got {self.share}; 1 is the recipes' training")
        if not FEWEST <= self.n <= HELD:
            raise ValueError(f"n must lie in {FEWEST} ... {HELD}, as many as are held out, got {self.n}")
        if not self.scales or not all(0 < s <= 1000 for s in self.scales) or len(set(self.scales)) < len(self.scales):
            raise ValueError(f"scales must be different numbers in (0, 1000], got {list(self.scales)}")
        if not self.tasks or not set(self.tasks) <= set(TRIALS) or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must be some of {', '.join(TRIALS)}, each once, got {list(self.tasks)}")
        Plan(steps=self.sampling)  # what sampling and runs would refuse is refused before they have taken their minutes
        self.autoencoder(), self.runs(), self.judge()

    # --- what is trained ---

    def autoencoder(self) -> AutoencoderRun:
        """The run of the first stage."""
        run: AutoencoderRun = get("small-autoencoder-f4").build()
        data = replace(run.data, source=TRAINING, held_out=0.02)
        return replace(run, data=data, trainer=self._trainer(run.trainer))

    def runs(self, autoencoder: Path | str = "") -> dict[str, DiffusionRun]:
        """Task -> the run of its model on the latents of an autoencoder's run; those left out, too."""
        found: dict[str, DiffusionRun] = {task: get(f"small-{task}").build() for task in TRIALS}
        return {
            task: replace(
                run,
                data=replace(run.data, source=TRAINING),
                autoencoder=str(autoencoder),
                trainer=self._trainer(run.trainer),
            )
            for task, run in found.items()
        }

    def judge(self, autoencoder: Path | str = "") -> SegmenterRun:
        """The run of the judge of an autoencoder's pictures."""
        trainer = TrainerConfig(
            steps=JUDGED, batch_size=16, ema_decay=0.99, log_every=20, save_every=500, preview_every=0,
            tensorboard=False, measure=False,
        )  # fmt: skip
        data = DataConfig(TRAINING, self.side, crop=False, held_out=0.0)
        return SegmenterRun(data, str(autoencoder), trainer=self._trainer(trainer))

    @property
    def side(self) -> int:
        """Pixels of a picture."""
        return self.autoencoder().data.side

    def _trainer(self, trainer: TrainerConfig) -> TrainerConfig:
        return replace(trainer, steps=math.ceil(self.share * trainer.steps), seed=self.seed)

    # --- what is done ---

    def run(self, out: Path) -> Path:
        """Train, sample and measure; returns OUT/report.html."""
        claim(out, self, free=("n", "sampling", "scales", "tasks"))
        first = train_autoencoder(self.autoencoder(), out / "autoencoder")
        runs, seconds = self.runs(first.run), first.result.seconds
        for task in self.tasks:
            seconds += train_diffusion(runs[task], out / task).result.seconds
        judge = train_segmenter(self.judge(first.run), out / "judge")

        @cache
        def load(task: str) -> LatentDiffusion:
            return LatentDiffusion.load(model_folder(out / task)).to(best_device())

        console().print(f"looking at {self.n} held-out and {self.n} training scenes")
        autoencoder = load(self.tasks[0]).autoencoder
        bench = Bench.of(
            runs, self.tasks, load, judge, autoencoder, open_source(HELD_OUT), open_source(TRAINING), self.n,
            scales=self.scales, sampling=self.sampling, seed=self.seed,
        )  # fmt: skip
        found = {name: measured(trial, bench, out / name) for name, trial in self.trials().items()}
        return self._write(out, bench, found, seconds)

    def trials(self) -> dict[str, Trial]:
        """Folder -> the trial, the judge's own first."""
        return {"judge": JUDGE} | {task: TRIALS[task] for task in self.tasks}

    def _write(self, out: Path, bench: Bench, found: Mapping[str, Sequence[Finding]], seconds: float) -> Path:
        everything = [finding for findings in found.values() for finding in findings]
        plots = drawings_of(found["captions"]) if "captions" in found else {}
        for name, plot in plots.items():
            plot.save_png(out / f"{name}.png")
        lines = table(everything)
        lines.save(out / "table.md")
        write_json(out / "scores.json", {"study": to_plain(self), "rows": [to_plain(f) for f in everything]})
        report = Report(
            "Control, measured",
            "Eight kinds of wish on scenes whose content is known: does the picture do what was wished for?",
            {
                "training": minutes(seconds),
                "samples": f"{self.n:,} for every number, of scenes that no model has seen",
                "steps": f"{self.sampling} of DPM++(2M)",
            },
        )
        for name, trial in self.trials().items():
            section = report.section(trial.title, trial.asked)
            if name in self.tasks:
                rows, captions = shown(bench, name)
                save_png(_sheet(rows, captions), out / f"{name}.png")
                section.compare(rows, captions, columns=2)
            if name == "captions":
                section.figures(plots.values())
            side_by_side, one = compact(found[name]), table(found[name])
            if len(side_by_side.body) > 1:
                section.table(side_by_side.head, side_by_side.body)
            section.table(one.head[1:], [row[1:] for row in one.body])
        protocol = PROTOCOL.format(n=self.n)
        report.section("How this was measured").text(protocol).details("The study", to_plain(self))
        report.save(out / "report.html")
        lines.show(range(len(lines.head) - 1))
        return out / "report.html"


PROTOCOL = (
    "{n} held-out scenes: emoji of concepts, and pieces of photographs, that were not learned from. Numbers are those "
    f"of all pictures, ± the standard deviation over {DRAWS} bootstrap choices of them. Real: the scenes themselves, "
    "passed through the first stage as every sample is; beside a Fréchet distance to real pictures, as many training "
    "scenes. Control: the same samples with the wishes of one another. The judge reads EfficientNet-Lite0's features, "
    "as FD-lite0 does, and has learned from training scenes with their label maps, half of which had passed the first "
    "stage; its own rows say how good it is. A class counts as seen from 40 of 4,096 pixels. FD-lite0 is no FID, and "
    "compares at equal N only."
)


def measured(trial: Trial, bench: Bench, folder: Path) -> list[Finding]:
    """All that a trial finds; what was found before, alike and by the same judge, is read from its model's folder."""
    kept = folder / "found" / f"{bench.judge.sha256}-n{bench.n}-steps{bench.sampling}"
    kept.mkdir(parents=True, exist_ok=True)
    parts = trial.parts(bench).items()
    return [row for name, part in parts for row in remembered(kept / f"{name}.json", Findings, part).rows]


def shown(bench: Bench, task: str) -> tuple[dict[str, list[Tensor]], list[str]]:
    """Wishes that can be drawn, two samples and the original, of the first scenes; and the wishes that are words.

    The first sample is among those that were measured."""
    n = min(SHOWN, bench.n)
    wishes = {key: values[:n] for key, values in bench.wishes(task).items()}
    rows = {key.replace("_", " "): row for key, row in drawings(wishes, bench.load(task).conditioner).items()}
    for name, seed in (("sample", bench.seed), ("another", bench.seed + 1)):
        rows[name] = [*completed(bench.samples(task, wishes, "to be shown", seed=seed), wishes)]
    said = {**wishes, "label": [bench.source.classes[y] for y in wishes["label"]]} if "label" in wishes else wishes
    return rows | {"original": [*bench.images[:n]]}, texts(said, n)


def _sheet(rows: Mapping[str, Sequence[Tensor]], captions: Sequence[str]) -> PILImage.Image:
    below = [text if k == 0 else "" for text in captions for k in range(len(rows))]
    pictures = sheet(rows)
    return grid(pictures, columns=len(rows), captions=below if any(below) else None, title=", ".join(rows))


def drawings_of(findings: Sequence[Finding]) -> dict[str, Plot]:
    """File name -> what guidance buys, for findings of captions at several scales."""
    by_measure: dict[str, list[Finding]] = {}
    for finding in findings:
        by_measure.setdefault(finding.measure, []).append(finding)
    f1, distance = by_measure["F1 of classes"], by_measure["FD-lite0 to real pictures"]
    names = [f.what.removeprefix("scale ") for f in f1]
    both = [Point(a.found.mean, b.found.mean, name) for a, b, name in zip(f1, distance, names, strict=True)]
    curves: dict[str, list[Point]] = {}
    for measure in ("F1 of classes", "classes exactly", "main class"):
        rows = by_measure[measure]
        curves[measure] = [Point(float(name), f.found.mean) for f, name in zip(rows, names, strict=True)]
    curves["F1, wishes shuffled"] = [
        Point(float(name), f.control.mean) for f, name in zip(f1, names, strict=True) if f.control is not None
    ]
    return {
        "captions-trade-off": trade_off(
            {"captions": both}, title="Words obeyed, and at what price", xlabel="F1 of classes", ylabel="FD-lite0"
        ),
        "captions-scale": trade_off(curves, title="Words obeyed, by scale", xlabel="scale", ylabel="share"),
    }

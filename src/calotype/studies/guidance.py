"""Figure 4 of classifier-free guidance in small: fidelity against diversity, for several ways to insist on a class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from calotype.conditioning.class_label import ClassLabelConfig
from calotype.console import console
from calotype.data.folder import open_source
from calotype.diffusion.curves import Cosine as CosineCurve
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.schedule import Schedule
from calotype.evaluation.features import Lite0
from calotype.evaluation.runner import Spread
from calotype.files import write_json
from calotype.generation.classifier import LatentClassifier
from calotype.generation.generate import Plan
from calotype.generation.images import grid, save_png
from calotype.jobs.report import few, minutes
from calotype.jobs.train import PIXELS, train_autoencoder, train_classifier, train_diffusion
from calotype.model import LatentDiffusion, model_folder
from calotype.nn.noisy_classifier import NoisyClassifierConfig
from calotype.nn.stem import Wavelet
from calotype.nn.unet import UNetConfig
from calotype.recipes import get
from calotype.registry import to_plain
from calotype.report.html import Report
from calotype.report.plots import Plot, Point, trade_off
from calotype.runs import AutoencoderRun, ClassifierRun, DataConfig, DiffusionRun
from calotype.runtime import best_device
from calotype.studies.base import claim, remembered, studies
from calotype.studies.guided import Makers, Setting
from calotype.studies.table import Table
from calotype.studies.yardstick import DRAWS, K, Likeness, Yardstick
from calotype.training.optim import Cosine, OptimizerConfig
from calotype.training.trainer import TrainerConfig

TRAINING, HELD_OUT, HELD = "embedded:fashion/train", "embedded:fashion/val", 1000
"""What is learned, what is measured on, and how many pictures that has."""

SIDE = 32

DATA = DataConfig(TRAINING, SIDE, flip=False, crop=False, held_out=0.0)

NOISELESS = Schedule(CosineCurve(logsnr_min=12.0, logsnr_max=14.0))
"""What the judge is trained on: at most as much noise as rounding to 8 bits makes."""

NO_CLASS, UNGUIDED = Setting("no class", 0.0, 0.0, told=False), Setting("unguided", 1.0, 1.0)

BEGINS = {
    "classifier-free": (NO_CLASS, UNGUIDED),
    "classifier": (UNGUIDED,),
    "classifier alone": (NO_CLASS,),
    "interval": (UNGUIDED,),
    "autoguidance": (UNGUIDED,),
}
"""Way -> the settings without guidance that its curve begins with."""

POWERS = ("classifier-free", "classifier", "classifier alone")
"""Ways that raise p(c | x_t) to a power."""

SPARING = ("classifier-free", "interval", "autoguidance")
"""Ways without a classifier, two of which are to spare diversity."""

Rows = Mapping[Setting, Likeness]


@studies.register("guidance")
@dataclass(frozen=True)
class GuidanceStudy:
    """Fidelity against diversity: a model of clothes, guided in five ways, each at several scales.

    The counterpart of Ho & Salimans 2022, https://arxiv.org/abs/2207.12598, figure 4, and of Dhariwal & Nichol 2021,
    https://arxiv.org/abs/2105.05233, figure 4. Three ways follow the score of p(x_t) p(c | x_t)^w, would do the same
    with perfect networks, and so share an axis: classifier-free guidance, a classifier on top of the conditional model,
    and a classifier alone, on the model's prediction without a class. Two more promise to keep diversity:
    classifier-free guidance in an interval of noise levels (Kynkaanniemi et al. 2024,
    https://arxiv.org/abs/2404.07724), and guidance away from a worse model (Karras et al. 2024,
    https://arxiv.org/abs/2406.02507). Clothes of ten classes, 32 x 32, in latents of 8 x 8. In pixels a model that has
    learned for minutes leaves a faint noise on black paper, and FD-lite0 sees little else: real pictures with noise of
    4 levels in 255 score 267, without it 23 (N = 200).

    Args:
        steps: of the model's training; a third as many for the autoencoder and for each classifier, an eighth for the
            worse model.
        n: samples of every setting, and as many held-out pictures beside them.
        sampling: steps of DPM++(2M) on Karras's grid.
        free: scales of classifier-free guidance, besides 0 and 1.
        classifier: scales of the classifier, with and without the class told to the model.
        limited: scales of classifier-free guidance in the interval.
        interval: of sigma / alpha.
        away: scales of autoguidance.
        seed: of weights, order and noise; the judge of the samples has the next one.

    Raises:
        ValueError: scales that are not positive or come twice, or 1 where that is no guidance; an empty interval; a
            number that no run accepts.
    """

    steps: int = 3000
    n: int = 1000
    sampling: int = 12
    free: tuple[float, ...] = (1.5, 2.0, 3.0, 5.0, 8.0)
    classifier: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    limited: tuple[float, ...] = (2.0, 3.0, 5.0, 8.0)
    interval: tuple[float, float] = (0.2, 5.0)
    away: tuple[float, ...] = (1.5, 2.0, 3.0)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("free", "classifier", "limited", "away"):
            scales = getattr(self, name)
            if not all(0 < s <= 1000 for s in scales) or len(set(scales)) < len(scales):
                raise ValueError(f"{name} must be different scales in 0 ... 1000, got {list(scales)}")
            if 1 in scales and name != "classifier":
                raise ValueError(f"{name} must leave out 1, which is no guidance and always measured")
        if not K < self.n <= HELD:
            raise ValueError(f"n must lie in {K + 1} ... {HELD:,}, as many as are held out, got {self.n}")
        if not 0 < self.interval[0] < self.interval[1] < math.inf:
            raise ValueError(f"interval must be (lowest, highest) sigma / alpha above 0, got {self.interval}")
        Plan(steps=self.sampling)  # what sampling and runs would refuse is refused before they have taken their minutes
        self.autoencoder(), self.diffusion(), self.judge()

    def settings(self) -> Iterator[Setting]:
        """What is sampled, way by way."""
        low, high = self.interval
        limits = (-2 * math.log(high), -2 * math.log(low))
        yield from (NO_CLASS, UNGUIDED)
        for s in sorted(self.free):
            yield Setting("classifier-free", s, s, ClassifierFree(s))
        for s in sorted(self.classifier):
            yield Setting("classifier", s, 1 + s, push=s)
        for s in sorted(self.classifier):
            yield Setting("classifier alone", s, s, told=False, push=s)
        for s in sorted(self.limited):
            yield Setting("interval", s, s, ClassifierFree(s, interval=limits))
        for s in sorted(self.away):
            yield Setting("autoguidance", s, s, away=s)

    def autoencoder(self) -> AutoencoderRun:
        """The run of the first stage: the default recipe with factor 4 on 32 x 32 pixels."""
        base: AutoencoderRun = get(None, "autoencoder").build()
        network = replace(base.autoencoder.network, channels=32, multipliers=(1, 2, 4), z_channels=4)
        trainer = self._trainer(1 / 3, batch_size=base.trainer.batch_size)
        autoencoder = replace(base.autoencoder, channels=4, network=network)
        return replace(base, data=replace(DATA, held_out=0.02), autoencoder=autoencoder, trainer=trainer)

    def diffusion(self, autoencoder: Path | str = "", share: float = 1.0, channels: int = 64) -> DiffusionRun:
        """The run of the model on the latents of an autoencoder's run, or of one of another width for a share of its
        steps."""
        return DiffusionRun(
            data=DATA,
            autoencoder=str(autoencoder),
            conditioners={"class": ClassLabelConfig(width=64)},
            drop=0.15,
            network=UNetConfig(
                channels=channels, multipliers=(1, 2), blocks=1, attention=(True, True), head_width=32, zero_init=False
            ),
            optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.01, warmup_steps=40, decay=Cosine(0.02)),
            trainer=self._trainer(share, batch_size=32),
        )

    def noisy_classifier(self, autoencoder: Path | str = "") -> ClassifierRun:
        """The run of the classifier that guides; 2 % of the pictures tell how good it is at each noise level."""
        half = UNetConfig(channels=64, multipliers=(1, 2), blocks=1, attention=(True, True), dropout=0.1)
        return self._classifier(half, self.diffusion(autoencoder))

    def _classifier(self, half: UNetConfig, model: DiffusionRun) -> ClassifierRun:
        return ClassifierRun(
            data=replace(DATA, held_out=0.02),
            autoencoder=model.autoencoder,
            network=NoisyClassifierConfig(half=half),
            schedule=model.schedule,
            time_sampler=model.objective.time_sampler,
            optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.05, warmup_steps=40, decay=Cosine(0.02)),
            trainer=self._trainer(1 / 3, batch_size=64),
        )

    def judge(self) -> ClassifierRun:
        """The run of the classifier of clean pixels, of other shape and seed."""
        half = UNetConfig(
            channels=32, multipliers=(1, 2, 2), blocks=1, attention=(False, False, True), dropout=0.1, stem=Wavelet()
        )
        run = self._classifier(half, self.diffusion(PIXELS))
        return replace(run, schedule=NOISELESS, trainer=replace(run.trainer, seed=self.seed + 1))

    def _trainer(self, share: float, batch_size: int) -> TrainerConfig:
        return TrainerConfig(
            steps=math.ceil(share * self.steps),
            batch_size=batch_size,
            seed=self.seed,
            ema_decay=0.995,
            save_every=500,
            preview_every=0,
            tensorboard=False,
            measure=False,
        )

    def run(self, out: Path) -> Path:
        """Train, sample and measure; returns OUT/report.html."""
        claim(out, self, free=("free", "classifier", "limited", "away"))
        runs, judged = ("diffusion", "worse"), ("classifier", "judge")
        first = train_autoencoder(self.autoencoder(), out / "autoencoder")
        stages = [
            first,
            train_diffusion(self.diffusion(first.run), out / "diffusion"),
            train_diffusion(self.diffusion(first.run, 1 / 8, channels=32), out / "worse"),
            train_classifier(self.noisy_classifier(first.run), out / "classifier"),
            train_classifier(self.judge(), out / "judge"),
        ]
        model, worse = (LatentDiffusion.load(model_folder(out / name)).to(best_device()) for name in runs)
        classifier, judge = (LatentClassifier.load(model_folder(out / name)).to(best_device()) for name in judged)
        classifier.check(model, str(out / "classifier"))
        makers = Makers(model, worse, classifier, self.sampling)
        held_out = few(open_source(HELD_OUT), self.n)
        console().print(f"measuring {DRAWS} times {self.n} real pictures")
        yardstick = Yardstick.of(held_out, open_source(TRAINING), SIDE, judge, model.autoencoder)
        names = [held_out.classes[y] for y in held_out.labels()]
        folder = out / "diffusion" / "rows"  # in the model's folder: without its model a row is worth nothing
        folder.mkdir(exist_ok=True)

        def measured(setting: Setting) -> Likeness:
            return yardstick.measure(makers.samples(setting, names, self.seed))

        rows = {
            setting: remembered(folder / f"{_file(setting.name)}.json", Likeness, partial(measured, setting))
            for setting in self.settings()
        }
        seconds = sum(stage.result.seconds for stage in stages)
        return self._write(out, makers, held_out.classes, yardstick, rows, seconds)

    def _write(
        self, out: Path, makers: Makers, classes: Sequence[str], yardstick: Yardstick, rows: Rows, seconds: float
    ) -> Path:
        plots, found = drawings(rows), table(rows, yardstick.real)
        for name, plot in plots.items():
            plot.save_png(out / f"{name}.png")
        found.save(out / "table.md")
        plain = [{"setting": to_plain(s), "found": to_plain(f)} for s, f in rows.items()]
        real = [to_plain(each) for each in yardstick.real]
        write_json(out / "scores.json", {"study": to_plain(self), "real": real, "rows": plain})
        report = Report(
            "Fidelity against diversity",
            "One model of clothes, guided in five ways: the same noise and classes at every scale.",
            {
                "training": minutes(seconds),
                "samples": f"{self.n:,} at every scale, beside {self.n:,} held-out pictures",
                "steps": f"{self.sampling} of DPM++(2M)",
            },
        )
        for way in BEGINS:
            settings = curve(rows, way)
            x = torch.cat([makers.samples(setting, classes, self.seed + 1) for setting in settings])
            captions = [s.name if k == 0 else "" for s in settings for k in range(len(classes))]
            save_png(grid(x, columns=len(classes), captions=captions, cell=96), out / f"samples-{_file(way)}.png")
            report.lead.pictures(x, captions, columns=len(classes), caption=way)
        report.section(
            "Fréchet distance",
            "Perfect networks would give the score of p(x_t) p(c | x_t)^w, in each of three ways, and equal pictures "
            "for equal w: the scale of classifier-free guidance, that of the classifier alone, and one more than that "
            "of the classifier on top of the conditional model.",
        ).figures([plots["frechet"], plots["accuracy"]])
        report.section("Precision and recall").figures([plots["precision-recall"]])
        report.section("Without a classifier").figures([plots["sparing-frechet"], plots["sparing-precision-recall"]])
        report.section("The table").table(found.head, found.body)
        report.section("How this was measured").text(PROTOCOL.format(n=self.n)).details("The study", to_plain(self))
        report.save(out / "report.html")
        found.show()
        return out / "report.html"


PROTOCOL = (
    "Samples beside held-out pictures that have passed the first stage, {n:,} on each side and as many of each class, "
    f"by {Lite0.name}: Fréchet distance, and precision, recall, density, coverage with k = {K}. Accuracy: the share "
    "that the judge takes for the class that was asked for; it learned clean pictures alone, and guides nobody. Real: "
    "training pictures in place of samples, passed through the first stage as well, mean and standard deviation of "
    f"{DRAWS} disjoint choices; the judge's accuracy there is that on the held-out pictures. The same noise for every "
    "setting."
)


def table(rows: Rows, real: Sequence[Likeness]) -> Table:
    """Real pictures, then every setting."""
    head = ["way", "scale", "FD-lite0", "precision", "recall", "density", "coverage", "accuracy"]
    first = ["real", "-", _spread([r.frechet for r in real], ".1f")]
    first += [_spread([getattr(r, name) for r in real], ".3f") for name in head[3:7]]
    body = [[*first, f"{real[0].accuracy:.3f}"]]
    for setting, found in rows.items():
        values = [f"{getattr(found, name):.3f}" for name in head[3:]]
        body.append([setting.way, f"{setting.scale:g}", f"{found.frechet:.1f}", *values])
    return Table(head, body)


def drawings(rows: Rows) -> dict[str, Plot]:
    """File name -> curves, each from no guidance to the largest scale."""

    def drawn(ways: Sequence[str], place: Callable[[Setting, Likeness], tuple[float, float]], *words: str) -> Plot:
        title, xlabel, ylabel = words
        series = {}
        for way in ways:
            # where curves begin they meet, and one name is enough
            named = [s for s in curve(rows, way) if s.way == way or way == ways[0]]
            series[way] = [Point(*place(s, rows[s]), f"{s.scale:g}" if s in named else "") for s in curve(rows, way)]
        return trade_off(series, title=title, xlabel=xlabel, ylabel=ylabel)

    def frechet(setting: Setting, found: Likeness) -> tuple[float, float]:
        return setting.power, found.frechet

    def recall(setting: Setting, found: Likeness) -> tuple[float, float]:
        return found.recall, found.precision

    def accuracy(setting: Setting, found: Likeness) -> tuple[float, float]:
        return setting.power, found.accuracy

    power = "power w of p(c | x_t)"
    return {
        "frechet": drawn(POWERS, frechet, "Fréchet distance", power, "FD-lite0"),
        "accuracy": drawn(POWERS, accuracy, "Classes recognised", power, "accuracy of the judge"),
        "precision-recall": drawn(POWERS, recall, "Fidelity and diversity", "recall", "precision"),
        "sparing-frechet": drawn(SPARING, frechet, "Fréchet distance, without a classifier", "scale", "FD-lite0"),
        "sparing-precision-recall": drawn(
            SPARING, recall, "Fidelity and diversity, without a classifier", "recall", "precision"
        ),
    }


def curve(rows: Rows, way: str) -> list[Setting]:
    """The settings of a way, from no guidance on."""
    return [*BEGINS[way], *(setting for setting in rows if setting.way == way)]


def _spread(values: Sequence[float], digits: str) -> str:
    found = Spread.of(torch.tensor(values))
    return f"{found.mean:{digits}} ±{found.std:{digits}}"


def _file(name: str) -> str:
    return name.replace(" ", "-")

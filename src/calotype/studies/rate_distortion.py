"""Where the bits go: rate against distortion of models of pixels and of latents, as latent diffusion reads it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from calotype.console import console
from calotype.data.folder import open_source
from calotype.data.source import Source
from calotype.diffusion.guidance import Unguided
from calotype.errors import UserError
from calotype.files import write_json
from calotype.generation.generate import Plan
from calotype.generation.images import save_png
from calotype.jobs.rate_distortion import Coded, Coding, code, open_models
from calotype.jobs.train import PIXELS, train_autoencoder, train_diffusion
from calotype.model import LatentDiffusion, model_folder
from calotype.nn.stem import Convolution
from calotype.recipes import get
from calotype.registry import to_plain
from calotype.report.html import Report
from calotype.runs import AutoencoderRun, DiffusionRun
from calotype.studies.base import claim, remembered, studies
from calotype.studies.bits import MEASURED, Row, border, border_level, curve_table, drawings, flow_table, sheet, table

TRAINING, HELD_OUT = "embedded:fluent-people/train", "embedded:fluent-people/val"


@studies.register("rate-distortion")
@dataclass(frozen=True)
class RateDistortionStudy:
    """What bits are spent on, in pixels and in latents: the case for a first stage, measured on a trained model.

    The counterpart of Rombach et al. 2022, https://arxiv.org/abs/2112.10752, figure 2, and of the curve that it reads,
    Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 4.3 and figure 5. The paper's claim is that a likelihood
    model of pixels spends most of its bits on detail that nobody sees (perceptual compression), and few on what is in
    the picture (semantic compression), so that the former is better left to an autoencoder. The border between the two
    is drawn here where the perceptual distance of what has arrived is that of the autoencoder's own reconstructions.

    Any finished runs can be measured (`runs`). Without them, one U-ViT is trained on emoji twice, for as many steps of
    as many pictures: on pixels, which two levels of a wavelet bring to 16 x 16 losing nothing, and on the 16 x 16
    latents of a first stage (f = 4, 3 channels). No conditions, held-out pictures. About 25 minutes on one CPU core.

    Args:
        runs: finished runs to measure, of pixels or latents, with pictures of one size; none = train.
        data: what is sent.
        steps: of each diffusion training, with 32 pictures each.
        first_stage_steps: of the first stage, with 8 pictures each.
        coding: how it is sent.
        seed: of weights, order and noise of the trainings.

    Raises:
        ValueError: numbers that no run accepts.
    """

    runs: tuple[str, ...] = ()
    data: str = HELD_OUT
    steps: int = 1800
    first_stage_steps: int = 1200
    coding: Coding = field(default_factory=Coding)
    seed: int = 0

    def __post_init__(self) -> None:
        # what a run would refuse is refused before the first one has taken its minutes
        self.first_stage()
        self.diffusion(PIXELS)

    def run(self, out: Path) -> Path:
        """Train if there is nothing to measure, and measure; returns OUT/report.html.

        Raises:
            UserError: besides those of `claim`, runs that cannot be measured together, and data of fewer than two
                pictures; nothing is computed then.
        """
        source = open_source(self.data)
        if len(source) < 2:
            raise UserError(f"{source.name} holds {len(source)} picture; measuring needs at least two, better hundreds")
        models = open_models([Path(run) for run in self.runs])
        claim(out, self, free=("runs", "data", "coding"))
        folders = [Path(run) for run in self.runs] or self._train(out)
        models = models or open_models(folders)
        return self._write(out, self.measured(out, folders, models, source), models, source)

    def measured(self, out: Path, folders: list[Path], models: list[LatentDiffusion], source: Source) -> list[Row]:
        """What is found of these models (their folders beside), or was found before and lies in OUT/curves."""
        (out / "curves").mkdir(parents=True, exist_ok=True)
        names = [folder.resolve().name for folder in folders]
        rows = []
        for k, (folder, model) in enumerate(zip(folders, models, strict=True)):
            name = names[k] if names.count(names[k]) == 1 else str(folder)
            console().print(f"[bold]{name}[/] ({k + 1} of {len(models)})")
            file = out / "curves" / f"{self._key(folder, source)}.json"
            found = remembered(file, Coded, partial(code, model, source, self.coding))
            rows.append(Row(name, model.notes, found))
        return rows

    def first_stage(self) -> AutoencoderRun:
        """The autoencoder's run: the default recipe with f = 4."""
        base: AutoencoderRun = get(None, "autoencoder").build()
        network = replace(base.autoencoder.network, multipliers=(1, 2, 4), z_channels=3)
        return replace(
            base,
            data=replace(base.data, source=TRAINING, held_out=0.0),
            autoencoder=replace(base.autoencoder, channels=3, network=network),
            trainer=replace(base.trainer, steps=self.first_stage_steps, seed=self.seed, preview_every=0),
        )

    def diffusion(self, autoencoder: str) -> DiffusionRun:
        """The diffusion model's run on the latents of a run or on pixels; nothing but the network's outermost layers
        differs."""
        base: DiffusionRun = get("pixel-emoji", "diffusion").build()
        return replace(
            base,
            data=replace(base.data, source=TRAINING),
            autoencoder=autoencoder,
            conditioners={},
            drop=0.0,
            network=base.network if autoencoder == PIXELS else replace(base.network, stem=Convolution()),
            trainer=replace(base.trainer, steps=self.steps, seed=self.seed, save_every=250, preview_every=0),
            preview=Plan(guidance=Unguided()),
        )

    def _train(self, out: Path) -> list[Path]:
        first = out / "first-stage"
        console().print("[bold]first stage[/]")
        train_autoencoder(self.first_stage(), first)
        for name, autoencoder in (("pixels", PIXELS), ("latents", str(first))):
            console().print(f"[bold]diffusion of {name}[/]")
            train_diffusion(self.diffusion(autoencoder), out / name)
        return [out / "pixels", out / "latents"]

    def _key(self, folder: Path, source: Source) -> str:
        """Of all that a measurement depends on."""
        model = (model_folder(folder) / "manifest.json").read_bytes()
        return hashlib.sha256(model + repr((source.fingerprint(), self.coding)).encode()).hexdigest()[:16]

    def _write(self, out: Path, rows: list[Row], models: list[LatentDiffusion], source: Source) -> Path:
        level = border_level(rows)
        plots = drawings(rows, level)
        for name, plot in plots.items():
            plot.save_png(out / f"{name}.png")
        sheets = {
            row.name: sheet(row, model, source, self.coding.seed) for row, model in zip(rows, models, strict=True)
        }
        for name, picture in sheets.items():
            save_png(picture, out / f"received-{name.replace('/', '-')}.png")
        found, arrived = table(rows, level), curve_table(rows)
        found.save(out / "table.md")
        arrived.save(out / "curve.md")
        write_json(
            out / "scores.json",
            {
                "study": to_plain(self),
                "border": level,
                "rows": [{"run": row.name, "notes": row.notes, "found": to_plain(row.found)} for row in rows],
            },
        )
        first = rows[0].found.curve
        report = Report(
            "Where the bits go",
            "Pictures are sent bit by bit; above, what the receiver shows when so many have arrived.",
            {"pictures": f"{first.n} of {first.side[1]} x {first.side[0]}", "data": self.data},
        )
        for name, picture in sheets.items():
            report.lead.pictures([picture], columns=1, caption=name)
        for row in rows:
            after = border(row, level)
            if after is not None:
                rate = row.found.curve.rate[-1].mean
                report.tile(
                    f"{row.name}: bits behind the border",
                    f"{1 - after / rate:.0%}",
                    f"{after:.3g} of {rate:.3g} bits per number come before it, N = {first.n}",
                )
        report.section("Rate and distortion").figures(plots.values())
        report.section("The table").table(found.head, found.body)
        report.section("What has arrived").table(arrived.head, arrived.body)
        crossed = flow_table(rows)
        if crossed.body:
            crossed.save(out / "flow.md")
            report.section(
                "The deterministic sampler",
                "Likelihoods of dequantised pictures under the probability flow, beside the bound of infinitely many "
                "steps on the same ones, both without clipping. The bound belongs to the stochastic sampler; for an "
                "exact denoiser the two samplers have one likelihood.",
            ).table(crossed.head, crossed.body)
        measured = report.section("How this was measured")
        for row in rows:
            measured.text(f"{row.name}: {row.found.curve.protocol}")
        measured.details("The study", to_plain(self))
        report.save(out / "report.html")
        found.show(MEASURED)
        return out / "report.html"

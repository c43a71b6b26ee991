"""What trials of conditional models are measured with: held-out scenes, what is known about them, and a judge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from calotype.autoencoder.base import Autoencoder
from calotype.console import counting
from calotype.data.source import Source
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.wrappers import paste
from calotype.evaluation.features import Lite0, extract
from calotype.evaluation.frechet import Moments
from calotype.evaluation.runner import Comparison
from calotype.generation.generate import Plan, Steer, generate
from calotype.jobs.report import Examples, examples, few, in_pairs
from calotype.model import LatentDiffusion
from calotype.runs import DataConfig, DiffusionRun
from calotype.runtime import best_device
from calotype.studies.control import derangement, shuffled
from calotype.studies.finding import Finding, Frechet, Ratio
from calotype.studies.segmenter import Segmenter
from calotype.types import Image

KNOWN = ("caption", "label", "layout", "label_map", "conditioning_image")
"""What every trial may ask about a scene."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A trial measures what models make of the wishes of n held-out scenes.

    Real pictures have passed the first stage, as samples have, wherever nothing else is said: `soft`. Those that stand
    beside the samples' Fréchet distance are training scenes, for the held-out ones would be compared with themselves.

    Args:
        runs: task -> the run of its model.
        trained: the tasks whose models there are.
        load: task -> its model.
        judge: tells areas apart.
        source: the held-out scenes.
        known: n of them with what is known about them.
        soft, training: held-out and training scenes (n, 3, H, W) that have passed the first stage.
        scales: of guidance, for captions.
        sampling: steps of DPM++(2M) on Karras's grid.
        seed: of noise and shuffling.
    """

    runs: Mapping[str, DiffusionRun]
    trained: Collection[str]
    load: Callable[[str], LatentDiffusion]
    judge: Segmenter
    source: Source
    known: Examples
    soft: Image
    training: Image
    scales: Sequence[float]
    sampling: int
    seed: int

    @classmethod
    def of(
        cls,
        runs: Mapping[str, DiffusionRun],
        trained: Collection[str],
        load: Callable[[str], LatentDiffusion],
        judge: Segmenter,
        autoencoder: Autoencoder,
        held_out: Source,
        training: Source,
        n: int,
        *,
        scales: Sequence[float],
        sampling: int,
        seed: int,
    ) -> Bench:
        """With n scenes of each source."""
        data = next(iter(runs.values())).data
        known, learned = examples(data, held_out, KNOWN, n), examples(data, few(training, n), (), n)
        soft, trained_on = passed(autoencoder, known.images), passed(autoencoder, learned.images)
        return cls(runs, trained, load, judge, held_out, known, soft, trained_on, scales, sampling, seed)

    # --- what is known ---

    @property
    def n(self) -> int:
        """Scenes."""
        return len(self.soft)

    @property
    def images(self) -> Image:
        """The scenes as they are."""
        return self.known.images

    @cached_property
    def order(self) -> Tensor:
        """Whose wish stands in for whose."""
        return derangement(self.n, self.seed)

    @cached_property
    def maps(self) -> Tensor:
        """What the judge makes of the real pictures."""
        return self.judge.maps(self.soft)

    @cached_property
    def label_maps(self) -> Tensor:
        """What is there, (n, H, W) uint8."""
        return torch.stack(self.known.wishes["label_map"])

    @property
    def classes(self) -> int:
        """Of objects."""
        return len(self.source.objects)

    # --- what models make ---

    def asked(self, data: DataConfig, reads: Collection[str]) -> dict[str, list[Any]]:
        """Entry -> the wishes of the n scenes, as a run's data makes them."""
        return examples(data, self.source, reads, self.n).wishes

    def wishes(self, task: str) -> dict[str, list[Any]]:
        """What a task's model reads."""
        return self.asked(self.runs[task].data, self.load(task).conditioner.reads)

    def plan(self, task: str, scale: float | None = None) -> Plan:
        """How a task is sampled: guided as its recipe says, or with another scale of classifier-free guidance."""
        guidance = self.runs[task].preview.guidance if scale is None else ClassifierFree(scale)
        return Plan(guidance=guidance, steps=self.sampling, batch=64)

    def samples(
        self,
        task: str,
        wishes: Mapping[str, Sequence[Any]],
        what: str = "",
        *,
        scale: float | None = None,
        steer: Steer | None = None,
        seed: int | None = None,
    ) -> Image:
        """One picture for each wish on the CPU, or n without any; sample k has the same noise in every trial."""
        n = len(next(iter(wishes.values()))) if wishes else self.n
        plan, done = self.plan(task, scale), []
        title = f"{task}{f', {what}' if what else ''}: {n} samples"
        with counting(title, n * self.sampling) as advance:
            noise = self.seed if seed is None else seed
            for update in generate(self.load(task), wishes, plan, n=n, seed=noise, steer=steer):
                advance(len(update.x_0))
                if update.image is not None:
                    done.append(update.image.cpu())
        return torch.cat(done)

    # --- what is found ---

    def obeyed(
        self,
        task: str,
        what: str,
        measure: str,
        ask: Callable[[Tensor, Any], Ratio],
        maps: Tensor,
        wishes: Tensor | Sequence[Any],
    ) -> Finding:
        """A measure of maps and wishes: of the samples' maps, of the real pictures', and with shuffled wishes."""
        control = ask(maps, shuffled(wishes, self.order))
        return Finding.of(task, what, measure, ask(maps, wishes), ask(self.maps, wishes), control, n=self.n)

    def frechet(self, task: str, what: str, images: Image) -> Finding:
        """FD-lite0 of samples to the real pictures."""
        found, real = (Frechet(features(x), self._soft_moments) for x in (images, self.training))
        return Finding.of(task, what, "FD-lite0 to real pictures", found, real, n=self.n)

    def frechet_to_originals(self, task: str, what: str, images: Image, real: Image | None = None) -> Finding:
        """FD-lite0 of pictures to those that they stand for, as they are; `real` by default is `soft`."""
        pairs = (Frechet(features(x), self._moments) for x in (images, self.soft if real is None else real))
        return Finding.of(task, what, "FD-lite0 to originals", *pairs, n=self.n)

    def frechet_to_soft(self, task: str, what: str, images: Image) -> Finding:
        """FD-lite0 of pictures to those that they stand for, passed through the first stage."""
        found = Frechet(features(images), self._soft_moments)
        return Finding.of(task, what, "FD-lite0 to originals through the autoencoder", found, n=self.n)

    @cached_property
    def _moments(self) -> Moments:
        return Moments.of(features(self.images))

    @cached_property
    def _soft_moments(self) -> Moments:
        return Moments.of(features(self.soft))


@torch.no_grad()
def passed(autoencoder: Autoencoder, images: Image) -> Image:
    """Pictures as the first stage brings them back, on the CPU."""
    batches = (x.to(best_device()) for x in torch.split(images, 64))
    return torch.cat([autoencoder.decode(autoencoder.encode(x)).clamp(-1, 1).cpu() for x in batches])


def features(images: Image) -> Tensor:
    """(n, D) of FD-lite0."""
    return extract(images, Lite0(best_device()))


def compared(x: Image, y: Image) -> dict[str, Ratio]:
    """PSNR, SSIM and perceptual distance of each pair, by name."""
    comparison = Comparison(Lite0(best_device()))
    values = torch.cat([comparison.add(a, b) for a, b in in_pairs(x, y)], 1)
    return {name: Ratio.mean(v) for name, v in zip(("PSNR, dB", "SSIM", "perceptual"), values, strict=True)}


def completed(images: Image, wishes: Mapping[str, Sequence[Any]]) -> Image:
    """Samples with the known pixels of their wishes, where those have holes: what ends every inpainting."""
    if "hole" not in wishes:
        return images
    return paste(images, torch.stack([*wishes["image"]]), ~torch.stack([*wishes["hole"]]))

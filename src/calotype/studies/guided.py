"""One way to follow a class, among several that are to be compared, and the samples that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from calotype.console import counting
from calotype.diffusion.grids import Karras
from calotype.diffusion.guidance import ClassifierFree, Extrapolation, Guidance
from calotype.diffusion.samplers.dpmpp2m import DPMpp2M
from calotype.diffusion.variance import Prediction, predictor
from calotype.generation.classifier import LatentClassifier
from calotype.generation.generate import Plan, Steer, generate
from calotype.model import LatentDiffusion
from calotype.types import Denoise, Latent, Time


@dataclass(frozen=True)
class Setting:
    """How samples are guided.

    Args:
        way: the curve that it belongs to.
        scale: as it is counted there.
        power: w, where perfect networks would give the score of p(x_t) p(c | x_t)^w; elsewhere the scale again.
        guidance: of the model by its own predictions.
        told: whether the model hears of the class.
        push: scale of the classifier; 0 is none.
        away: scale of the extrapolation from a worse model; 1 is none.
    """

    way: str
    scale: float
    power: float
    guidance: Guidance = field(default_factory=lambda: ClassifierFree(1.0))
    told: bool = True
    push: float = 0.0
    away: float = 1.0

    @property
    def name(self) -> str:
        """Way and scale."""
        return f"{self.way} {self.scale:g}"


@dataclass(frozen=True)
class Makers:
    """The networks that make pictures.

    Args:
        model: is guided.
        worse: of the same classes and schedule, smaller or trained for shorter.
        classifier: of what the model sees.
        steps: of DPM++(2M) on Karras's grid.
    """

    model: LatentDiffusion
    worse: LatentDiffusion
    classifier: LatentClassifier
    steps: int

    def samples(self, setting: Setting, names: Sequence[str], seed: int) -> Tensor:
        """One picture for each class name, (N, 3, H, W) in [-1, 1] on the CPU; the same noise for every setting."""
        wishes = {"label": names} if setting.told else {}
        plan = Plan(DPMpp2M(), Karras(), setting.guidance, self.steps, batch=100)
        steer, done = self._steer(setting, names), []
        with counting(f"{setting.name}: {len(names)} samples", len(names) * self.steps) as advance:
            for update in generate(self.model, wishes, plan, n=len(names), seed=seed, steer=steer):
                advance(len(update.x_0))
                if update.image is not None:
                    done.append(update.image.cpu())
        return torch.cat(done)

    def _steer(self, setting: Setting, names: Sequence[str]) -> Steer:
        """What follows the model's own guidance: towards the classifier's class, and away from the worse model."""
        push, rule = self.classifier.steer(names, setting.push), Extrapolation(setting.away)

        def steer(denoise: Denoise, rows: slice) -> Denoise:
            better = push(denoise, rows)
            # `Autoguidance` asks both networks with one condition; these have learned a conditioner each
            with torch.no_grad():
                worse = self.worse.denoiser.bind(self.worse.condition({"label": names[rows]}, len(names[rows])))

            def pair(x_t: Latent, t: Time) -> tuple[Prediction, Latent]:
                return predictor(better)(x_t, t), worse(x_t, t)

            return rule.extrapolated(self.model.denoiser.schedule, better, pair)

        return steer

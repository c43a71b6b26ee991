"""A classifier for guidance: learn which class a noisy latent is of.

    z ~ q(z | x)      t ~ time sampler      z_t = alpha z + sigma eps      loss = -log p(y | z_t, t)

Pictures without a class do not count. Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype.autoencoder.base import Autoencoder
from calotype.diffusion.classifier import Classifier
from calotype.diffusion.times import TimeSampler
from calotype.rng import Draws
from calotype.tasks.base import Loss, Progress, Task
from calotype.tasks.latents import posterior_sample
from calotype.types import Batch

LEVELS = 4
"""Parts of the time axis that accuracy is logged for."""


class Classify(Task):
    """Train `classifier` on noised latents of `autoencoder`, which stays as it is."""

    phases: ClassVar[tuple[str, ...]] = ("classify",)
    ema: ClassVar[tuple[str, ...]] = ("classify",)

    def __init__(self, classifier: Classifier, autoencoder: Autoencoder, time_sampler: TimeSampler) -> None:
        super().__init__()
        self.classifier, self.time_sampler = classifier, time_sampler
        self.autoencoder: Autoencoder = autoencoder.eval().requires_grad_(False)

    def trainable(self, phase: str) -> nn.Module:
        """The classifier."""
        return self.classifier

    def losses(self, batch: Batch, progress: Progress, draws: Draws) -> Iterator[Loss]:
        """Cross entropy in nats, over the pictures that have a class. Metrics: "accuracy", and
        "accuracy_t_LOW_HIGH" for each part of the time axis that the batch visits."""
        z = posterior_sample(self.autoencoder, batch, draws)
        t = self.time_sampler(draws.uniform("time"))
        z_t = self.classifier.schedule.perturb(z, draws.normal("noise", z), t.to(z.device))
        logits = self.classifier(z_t, t.to(z.device))
        y = batch["label"].to(logits.device)
        known = y >= 0
        nats = F.cross_entropy(logits, y, ignore_index=-1, reduction="sum") / known.sum().clamp(min=1)
        yield Loss("classify", nats, _accuracies(logits.detach(), y, t))

    def preview(self, batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        """None: a classifier makes no pictures."""
        return {}


def _accuracies(logits: Tensor, y: Tensor, t: Tensor) -> dict[str, Tensor]:
    """Shares of right answers among rows with a class, all together and by part of the time axis."""
    right, known, t = (logits.argmax(1) == y).cpu(), (y >= 0).cpu(), t.cpu()
    part = (t * LEVELS).ceil().long().clamp(1, LEVELS)  # times lie in (0, 1]
    rows = {f"accuracy_t_{(k - 1) / LEVELS:.2f}_{k / LEVELS:.2f}": known & (part == k) for k in range(1, LEVELS + 1)}
    return {name: right[some].float().mean() for name, some in ({"accuracy": known} | rows).items() if some.any()}


@torch.no_grad()
def recognised(classifier: Classifier, z: Tensor, y: Tensor, t: float, eps: Tensor) -> Tensor:
    """Which of the latents z (B, C, h, w) are recognised at time t with noise eps like z: bool (B,)."""
    time = torch.full((len(z),), t, dtype=torch.float64, device=z.device)
    logits: Tensor = classifier(classifier.schedule.perturb(z, eps, time), time)
    return logits.argmax(1) == y.to(logits.device)

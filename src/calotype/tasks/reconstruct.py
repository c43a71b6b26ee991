"""First stage: the autoencoder against its discriminator.

    autoencoder:   nll(x, x_hat) + KL / D + penalties + w_adapt u(step) g(D(x_hat))
    discriminator: hinge or log loss on D(x), D(sg x_hat), perhaps with a penalty, from `start` on

nll is that of `losses.reconstruction`, KL the bottleneck's rate (a sum over the latent's elements), D = 3 H W. Dividing
the papers' per-image *sums* by D changes no ratio between the terms (Adam does not see the factor) and keeps the
printed numbers readable at every resolution.

The discriminator trains alone for `warmup` of the run before the decoder hears of it, and then its voice u rises
linearly over the same span: an untrained critic is what ruins reconstructions when it is switched on.

Esser et al. 2021, https://arxiv.org/abs/2012.09841; Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix G.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from calotype import ranks
from calotype.autoencoder.bottleneck.base import Code
from calotype.autoencoder.latent import LatentAutoencoder
from calotype.losses.adversarial import (
    Adversarial,
    Hinge,
    adaptive_weight,
    gradient_at,
    value_with_gradient,
)
from calotype.losses.critic_penalty import CriticPenaltyConfig
from calotype.losses.reconstruction import Likelihood
from calotype.nn.discriminator import PatchDiscriminator
from calotype.rng import Draws
from calotype.tasks.base import Loss, Progress, Task
from calotype.tasks.codebook_watch import CodebookWatch
from calotype.tasks.onset import AtFraction, OnsetConfig
from calotype.types import Batch


@dataclass(frozen=True)
class ReconstructionLoss:
    """The weights of the first stage's losses.

    Args:
        l1: w_1, weight of the mean absolute error.
        l2: w_2, weight of the mean squared error. In short runs on small sets it is what teaches rare colours: one
            wholly wrong surface weighs more than many slightly soft edges.
        perceptual: w_p, weight of the perceptual distance.
        learn_scale: learn s, the scale of the errors.
        adversarial: the adversarial pair.
        weight: constant factor of the adaptive weight ("disc_weight").
        largest: the largest ratio of gradients that the adaptive weight follows.
        start: when the discriminator begins to learn.
        warmup: fraction of the run in which it learns alone, and again in which its voice rises to full.
        penalty: what restrains the discriminator; None = nothing.
    """

    l1: float = 1.0
    l2: float = 0.0
    perceptual: float = 1.0
    learn_scale: bool = False
    adversarial: Adversarial = field(default_factory=Hinge)
    weight: float = 0.5
    largest: float = 1e4
    start: OnsetConfig = field(default_factory=AtFraction)
    warmup: float = 0.05
    penalty: CriticPenaltyConfig | None = None

    def __post_init__(self) -> None:
        for name in ("l1", "l2", "perceptual", "weight", "largest", "warmup"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be >= 0, got {value}")

    def voice(self, progress: Progress, begun: float | None) -> float:
        """u in [0, 1]: how loudly the autoencoder hears a discriminator that began at step `begun`."""
        if begun is None:
            return 0.0
        since = (progress.step - begun) / max(1, progress.total) - self.warmup
        return min(1.0, max(0.0, since / self.warmup if self.warmup else float(since >= 0)))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow *through* the module to its input, but none is left in its parameters."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


class Reconstruct(Task):
    """Train `autoencoder` to reconstruct "image", judged by pixels, features and `discriminator`.

    Args:
        autoencoder, discriminator: the two players.
        perceptual: pictures x, y (B, 3, H, W) in [-1, 1] -> distance of each pair (B,).
        loss: the weights.
    """

    phases: ClassVar[tuple[str, ...]] = ("autoencoder", "discriminator")
    ema: ClassVar[tuple[str, ...]] = ("autoencoder",)

    def __init__(
        self,
        autoencoder: LatentAutoencoder,
        discriminator: PatchDiscriminator,
        perceptual: nn.Module,
        loss: ReconstructionLoss,
    ) -> None:
        super().__init__()
        self.autoencoder, self.discriminator, self.perceptual, self.loss = autoencoder, discriminator, perceptual, loss
        self.likelihood, self.onset, self.watch = Likelihood(loss.learn_scale), loss.start.build(), CodebookWatch()
        self.penalty = None if loss.penalty is None else loss.penalty.build()
        # What each optimizer owns, with all that has to survive a stop.
        sides: dict[str, dict[str, nn.Module]] = {
            "autoencoder": {
                "autoencoder": autoencoder,
                "likelihood": self.likelihood,
                "onset": self.onset,
                "watch": self.watch,
            },
            "discriminator": {"discriminator": discriminator} | ({"penalty": self.penalty} if self.penalty else {}),
        }
        self.sides = nn.ModuleDict({phase: nn.ModuleDict(parts) for phase, parts in sides.items()})

    def trainable(self, phase: str) -> nn.Module:
        """The autoencoder's or the discriminator's side."""
        return self.sides[phase]

    def losses(self, batch: Batch, progress: Progress, draws: Draws) -> Iterator[Loss]:
        """One forward pass of the autoencoder serves both phases."""
        x: Tensor = batch["image"]
        usage = self.autoencoder.bottleneck.usage
        seen, warnings = ({}, ()) if usage is None else self.watch.look(usage, batch)
        x_hat, code = self.autoencoder.reconstruct(x, lambda like: draws.normal("posterior", like))
        error, parts = self._error(x, x_hat)
        nll, cost = self.likelihood(error), self._cost(code, x)
        numbers: dict[str, float | Tensor] = {**seen, **parts, **code.metrics, **code.penalties}
        if self.likelihood.logvar is not None:
            numbers["logvar"] = self.likelihood.logvar

        begun = self.onset.begun(progress, error.detach())
        voice = self.loss.voice(progress, begun)
        if voice == 0.0:
            total = nll + cost
        else:
            # Both gradients stop at x_hat, so the frozen networks behind the losses run backward once, although the
            # adaptive weight needs their gradients before the total is known.
            with frozen(self.discriminator):
                g = self.loss.adversarial.generator(self.discriminator(x_hat).float())
            d_rec, d_adv = gradient_at(nll, x_hat), gradient_at(g, x_hat)
            w = voice * adaptive_weight(
                self._at_last_layer(x_hat, d_rec),
                self._at_last_layer(x_hat, d_adv),
                self.loss.weight,
                self.loss.largest,
            )
            total = value_with_gradient(x_hat, d_rec + w * d_adv, nll + w * g) + cost
            if self.likelihood.logvar is not None:  # which the detour over x_hat has left out
                total = total + value_with_gradient(self.likelihood.logvar, gradient_at(nll, self.likelihood.logvar))
            numbers |= {"generator": g, "adaptive_weight": w}
        yield Loss("autoencoder", total, _detached(numbers), warnings)

        if begun is not None:
            yield self._criticise(x, x_hat.detach())

    def _error(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted reconstruction error, and its parts."""
        difference = x - x_hat
        l1, l2 = difference.abs().mean(), difference.square().mean()
        features: Tensor = self.perceptual(x, x_hat).mean()
        error = self.loss.l1 * l1 + self.loss.l2 * l2 + self.loss.perceptual * features
        return error, {"l1": l1, "l2": l2, "perceptual": features}

    def _cost(self, code: Code, x: Tensor) -> Tensor:
        """What the code costs: penalties, and the rate per pixel value."""
        cost = sum(code.penalties.values(), x.new_zeros(()))
        return cost if code.rate is None else cost + code.rate / x[0].numel()

    def _criticise(self, x: Tensor, x_hat: Tensor) -> Loss:
        """The discriminator's loss on real pictures and on reconstructions without a graph behind them."""
        if self.penalty is not None and self.penalty.differentiates:
            # Not the leaf itself: FLOPs are counted by hooks on what modules are given, which forbid `grad` of a leaf.
            x = x.detach().requires_grad_().clone()
        # Real and fake in separate calls: batch normalisation must not mix their statistics.
        real, fake = self.discriminator(x).float(), self.discriminator(x_hat).float()
        value = self.loss.adversarial.discriminator(real, fake)
        numbers: dict[str, float | Tensor] = {"logits_real": real.mean(), "logits_fake": fake.mean()}
        if self.penalty is not None:
            numbers["penalty"] = penalty = self.penalty(x, real, fake)
            value = value + penalty
        return Loss("discriminator", value, _detached(numbers))

    def _at_last_layer(self, x_hat: Tensor, gradient: Tensor) -> Tensor:
        (g,) = torch.autograd.grad(x_hat, self.autoencoder.last_weight, gradient, retain_graph=True)
        # The weight must be that of the whole batch, wherever its parts are.
        return ranks.mean(g)

    @torch.no_grad()
    def preview(self, batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        """Originals and reconstructions, interleaved pairwise."""
        x: Tensor = batch["image"][:16]
        x_hat, _ = self.autoencoder.reconstruct(x)
        return {"reconstructions": torch.stack([x, x_hat.clamp(-1, 1).to(x)], 1).flatten(0, 1)}


def _detached(metrics: Mapping[str, float | Tensor]) -> dict[str, float | Tensor]:
    return {k: v.detach() if isinstance(v, Tensor) else v for k, v in metrics.items()}

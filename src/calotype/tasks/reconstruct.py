"""First stage: the autoencoder against its discriminator.

    autoencoder:   mean_{c,h,w}[ w_1 |x - x_hat| + w_2 (x - x_hat)^2 ] + w_p P(x, x_hat) + KL / D
                   + w_adapt u(step) g(D(x_hat))
    discriminator: hinge or log loss on D(x), D(sg x_hat), from `start` on

P is the perceptual distance, KL the bottleneck's rate (a sum over the latent's elements), D = 3 H W. Dividing the
papers' per-image *sums* by D changes no ratio between the terms (Adam does not see the factor) and keeps the printed
numbers readable at every resolution.

The discriminator trains alone for `warmup` of the run before the decoder hears of it, and then its voice u rises
linearly over the same span: an untrained critic is what ruins reconstructions when it is switched on.

Esser et al. 2021, https://arxiv.org/abs/2012.09841; Rombach et al. 2022, https://arxiv.org/abs/2112.10752, appendix G.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from calotype.autoencoder.latent import LatentAutoencoder
from calotype.losses.adversarial import (
    Adversarial,
    Hinge,
    adaptive_weight,
    gradient_at,
    value_with_gradient,
)
from calotype.losses.perceptual import Perceptual
from calotype.nn.discriminator import PatchDiscriminator
from calotype.rng import Draws
from calotype.tasks.base import Loss, Progress, Task
from calotype.types import Batch


@dataclass(frozen=True)
class ReconstructionLoss:
    """The weights of the first stage's losses.

    Args:
        l1: w_1, weight of the mean absolute error.
        l2: w_2, weight of the mean squared error. In short runs on small sets it is what teaches rare colours: one
            wholly wrong surface weighs more than many slightly soft edges.
        perceptual: w_p, weight of the perceptual distance.
        adversarial: the adversarial pair.
        weight: constant factor of the adaptive weight ("disc_weight").
        start: fraction of the run at which the discriminator begins to learn; 1 = never.
        warmup: fraction of the run in which it learns alone, and again in which its voice rises to full.
    """

    l1: float = 1.0
    l2: float = 0.0
    perceptual: float = 1.0
    adversarial: Adversarial = field(default_factory=Hinge)
    weight: float = 0.5
    start: float = 0.5
    warmup: float = 0.05

    def __post_init__(self) -> None:
        for name in ("l1", "l2", "perceptual", "weight", "start", "warmup"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be >= 0, got {value}")

    def learns(self, progress: Progress) -> bool:
        """Whether the discriminator takes steps now."""
        return progress.fraction >= self.start

    def voice(self, progress: Progress) -> float:
        """u in [0, 1]: how loudly the autoencoder hears the discriminator."""
        since = progress.fraction - self.start - self.warmup
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
    """Train `autoencoder` to reconstruct "image", judged by pixels, features and `discriminator`."""

    phases: ClassVar[tuple[str, ...]] = ("autoencoder", "discriminator")
    ema: ClassVar[tuple[str, ...]] = ("autoencoder",)

    def __init__(
        self,
        autoencoder: LatentAutoencoder,
        discriminator: PatchDiscriminator,
        perceptual: Perceptual,
        loss: ReconstructionLoss,
    ) -> None:
        super().__init__()
        self.autoencoder, self.discriminator, self.perceptual, self.loss = autoencoder, discriminator, perceptual, loss

    def trainable(self, phase: str) -> nn.Module:
        """The autoencoder, or the discriminator."""
        return {"autoencoder": self.autoencoder, "discriminator": self.discriminator}[phase]

    def losses(self, batch: Batch, progress: Progress, draws: Draws) -> Iterator[Loss]:
        """One forward pass of the autoencoder serves both phases."""
        x: Tensor = batch["image"]
        x_hat, code = self.autoencoder.reconstruct(x, lambda like: draws.normal("posterior", like))
        difference = x - x_hat
        l1, l2 = difference.abs().mean(), difference.square().mean()
        features = self.perceptual(x, x_hat).mean()
        reconstruction = self.loss.l1 * l1 + self.loss.l2 * l2 + self.loss.perceptual * features
        penalty = sum(code.penalties.values(), x.new_zeros(()))
        if code.rate is not None:
            penalty = penalty + code.rate / x[0].numel()
        metrics: dict[str, float | Tensor] = {"l1": l1, "l2": l2, "perceptual": features}
        metrics |= {**code.metrics, **code.penalties}

        voice = self.loss.voice(progress)
        if voice == 0.0:
            total = reconstruction + penalty
        else:
            # Both gradients stop at x_hat, so the frozen networks behind the losses run backward once, although the
            # adaptive weight needs their gradients before the total is known.
            with frozen(self.discriminator):
                g = self.loss.adversarial.generator(self.discriminator(x_hat).float())
            d_rec, d_adv = gradient_at(reconstruction, x_hat), gradient_at(g, x_hat)
            w = voice * adaptive_weight(
                self._at_last_layer(x_hat, d_rec), self._at_last_layer(x_hat, d_adv), self.loss.weight
            )
            total = value_with_gradient(x_hat, d_rec + w * d_adv, reconstruction + w * g) + penalty
            metrics |= {"generator": g, "adaptive_weight": w}
        yield Loss("autoencoder", total, {k: v.detach() if isinstance(v, Tensor) else v for k, v in metrics.items()})

        if self.loss.learns(progress):
            # Real and fake in separate calls: batch normalisation must not mix their statistics.
            real, fake = self.discriminator(x).float(), self.discriminator(x_hat.detach()).float()
            value = self.loss.adversarial.discriminator(real, fake)
            yield Loss(
                "discriminator", value, {"logits_real": real.detach().mean(), "logits_fake": fake.detach().mean()}
            )

    def _at_last_layer(self, x_hat: Tensor, gradient: Tensor) -> Tensor:
        (g,) = torch.autograd.grad(x_hat, self.autoencoder.last_weight, gradient, retain_graph=True)
        return g

    @torch.no_grad()
    def preview(self, batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        """Originals and reconstructions, interleaved pairwise."""
        x: Tensor = batch["image"][:16]
        x_hat, _ = self.autoencoder.reconstruct(x)
        return {"reconstructions": torch.stack([x, x_hat.clamp(-1, 1).to(x)], 1).flatten(0, 1)}

"""Second stage: learn to denoise latents.

    z ~ q(z | x)      t ~ time sampler      z_t = alpha z + sigma eps      loss = w(t) |F - F*|^2

Latents come from the cache ("latent_mean", "latent_std": a fresh posterior sample every time) or, for data that is
not cached, from encoding "image" on the fly. Wishes are dropped per sample.

Ho et al. 2020, https://arxiv.org/abs/2006.11239; Rombach et al. 2022, https://arxiv.org/abs/2112.10752, eq. (2), (3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn

from calotype.autoencoder.base import Autoencoder
from calotype.conditioning.conditioner import Conditioners
from calotype.diffusion.denoiser import Denoiser
from calotype.diffusion.objective import Objective
from calotype.generation.generate import Plan, images
from calotype.model import LatentDiffusion
from calotype.rng import Draws
from calotype.tasks.base import Loss, Progress, Task
from calotype.tasks.latents import posterior_sample
from calotype.types import Batch


class Denoise(Task):
    """Train `denoiser` and `conditioner` together; the autoencoder stays as it is."""

    phases: ClassVar[tuple[str, ...]] = ("denoise",)
    ema: ClassVar[tuple[str, ...]] = ("denoise",)

    def __init__(self, model: LatentDiffusion, objective: Objective, plan: Plan) -> None:
        super().__init__()
        self.objective, self.plan = objective, plan
        self.denoiser: Denoiser = model.denoiser
        self.conditioner: Conditioners = model.conditioner
        self.autoencoder: Autoencoder = model.autoencoder.eval().requires_grad_(False)
        self._side = model.side

    def trainable(self, phase: str) -> nn.Module:
        """Denoiser and conditioner, one optimizer."""
        return nn.ModuleDict({"denoiser": self.denoiser, "conditioner": self.conditioner})

    def losses(self, batch: Batch, progress: Progress, draws: Draws) -> Iterator[Loss]:
        """The weighted denoising error, averaged over the batch."""
        z = posterior_sample(self.autoencoder, batch, draws)
        n = len(z)
        own = {name: draws.uniform(f"drop.{name}") for name in self.conditioner.members}
        cond = self.conditioner.dropped(batch, self.conditioner.keep(draws.uniform("drop"), own), n)
        t = self.objective.time_sampler(draws.uniform("time")).to(z.device)
        per_sample, metrics = self.objective(self.denoiser, z, cond, t, draws.normal("noise", z))
        yield Loss("denoise", per_sample.mean(), metrics)

    def preview(self, batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        """Samples for the wishes of the batch, always from the same noise, so that pictures can be compared."""
        wishes = {k: list(batch[k][:16]) for k in self.conditioner.reads if k in batch}
        model = LatentDiffusion(self.autoencoder, self.denoiser, self.conditioner, side=self._side)
        n = min(16, len(batch["index"]))
        return {"samples": images(model, wishes, self.plan, n=n, seed=draws.seed)}

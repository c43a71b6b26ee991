"""From wishes to pictures.

    for update in generate(model, {"caption": ["a red heart"]}, Plan(), n=4, seed=7):
        show(update.preview)                   # E[z_0 | z_t] so far; update.image on the last step

Sample k of seed s is always the same picture, whatever the batch size: its noise comes from `fold(s, "sample", k)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from calotype.diffusion.grids import Grid, Karras
from calotype.diffusion.guidance import ClassifierFree, Guidance
from calotype.diffusion.samplers.base import Sampler
from calotype.diffusion.samplers.dpmpp2m import DPMpp2M
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.variance import Variance
from calotype.model import LatentDiffusion
from calotype.rng import SampleNoise
from calotype.types import Denoise, Image, Latent

Steer = Callable[[Denoise, slice], Denoise]
"""What changes the guided (x_t, t) -> x_0 of the samples in a slice of a request; see `diffusion.wrappers`."""


@dataclass(frozen=True)
class Plan:
    """How to sample.

    Args:
        sampler: the integrator.
        grid: where its steps lie.
        guidance: how strongly the wish is followed.
        steps: number of steps.
        batch: samples per network call; changes speed and memory, not pictures.
    """

    sampler: Sampler = field(default_factory=DPMpp2M)
    grid: Grid = field(default_factory=Karras)
    guidance: Guidance = field(default_factory=lambda: ClassifierFree(3.0))
    steps: int = 20
    batch: int = 16

    def __post_init__(self) -> None:
        for name, low, high in (("steps", 1, 10_000), ("batch", 1, 65_536)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in {low} ... {high}, got {getattr(self, name)}")

    def times(self, schedule: Schedule, variance: Variance) -> Tensor:
        """The grid's times for a denoiser of this schedule and variance; raises `UserError` if they do not fit."""
        times = self.grid(schedule, self.steps)
        self.sampler.check(times, schedule, variance)
        return times


@dataclass(frozen=True)
class Update:
    """Where sampling is.

    Args:
        first: index of the batch's first sample.
        step: steps done, of `steps`.
        x_0: the free preview, a latent.
        image: the finished pictures (b, 3, H, W) in [-1, 1], on the last step only.
    """

    first: int
    step: int
    steps: int
    x_0: Latent
    image: Image | None = None


def generate(
    model: LatentDiffusion,
    wishes: Mapping[str, Sequence[Any]],
    plan: Plan,
    *,
    n: int,
    seed: int,
    height: int | None = None,
    width: int | None = None,
    steer: Steer | None = None,
) -> Iterator[Update]:
    """Sample n pictures batch by batch.

    Args:
        wishes: batch entry -> n values ("caption": n strings); empty for an unconditional picture.
        height, width: pixels; the training side if None. Multiples of the autoencoder's factor.
        steer: comes after the plan's guidance: a classifier, a known part, ...

    Raises:
        UserError: a wish of a kind that the model does not take, a plan that its schedule does not allow.
        ValueError: sizes that do not fit, or numbers of wishes that differ from n.
    """
    for key, values in wishes.items():
        if len(values) != n:
            raise ValueError(f"{n} samples need {n} entries of {key!r}, got {len(values)}")
    shape = model.autoencoder.latent_shape(height or model.side, width or model.side)
    device = next(model.denoiser.parameters()).device
    schedule = model.denoiser.schedule
    times = plan.times(schedule, model.denoiser.variance)
    for first in range(0, n, plan.batch):
        last = min(n, first + plan.batch)
        with torch.no_grad():
            rows = {k: list(v[first:last]) for k, v in wishes.items()}
            cond = model.condition(rows, last - first)
            # where guidance has nothing to strengthen, it need not ask twice
            null = model.null(last - first, rows) if model.conditioner.guided else cond
        denoise = plan.guidance(model.denoiser, cond, null)
        if steer is not None:
            denoise = steer(denoise, slice(first, last))
        noise = SampleNoise.range(seed, last - first, first)
        x = noise.initial(shape, device) * float(schedule.at(times[0])[1])
        for step, state in enumerate(plan.sampler(denoise, x, times, schedule, noise), 1):
            done = step == plan.steps
            yield Update(first, step, plan.steps, state.x_0, _decode(model, state.x) if done else None)


@torch.no_grad()
def _decode(model: LatentDiffusion, z: Latent) -> Image:
    return model.decode(z).clamp(-1.0, 1.0)


def images(model: LatentDiffusion, wishes: Mapping[str, Sequence[Any]], plan: Plan, *, n: int, seed: int) -> Tensor:
    """The finished pictures of `generate`, (n, 3, H, W) in [-1, 1] on the CPU."""
    return torch.cat([u.image.cpu() for u in generate(model, wishes, plan, n=n, seed=seed) if u.image is not None])

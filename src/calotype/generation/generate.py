"""From wishes to pictures.

    for update in generate(model, {"caption": ["a red heart"]}, Plan(), n=4, seed=7):
        show(update.preview)                   # E[z_0 | z_t] so far; update.image on the last step

Sample k of seed s is always the same picture, whatever the batch size: its noise comes from `fold(s, "sample", k)`.

Any size is sampled, in bounded memory: a picture of more than 16 times the area of training goes through the denoiser
in overlapping windows (`diffusion.windows`), what does not fit into memory through the decoder in tiles
(`autoencoder.tiling`), and of larger pictures than those of training fewer go together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from calotype.autoencoder import tiling
from calotype.diffusion.denoiser import ConditionalDenoise
from calotype.diffusion.grids import Grid, Karras
from calotype.diffusion.guidance import ClassifierFree, Guidance
from calotype.diffusion.samplers.base import Sampler
from calotype.diffusion.samplers.dpmpp2m import DPMpp2M
from calotype.diffusion.schedule import Schedule
from calotype.diffusion.start import part_of, start_from
from calotype.diffusion.variance import Variance
from calotype.diffusion.windows import Windowed
from calotype.errors import UserError
from calotype.generation.frame import multiple_of, near
from calotype.model import LatentDiffusion
from calotype.rng import SampleNoise
from calotype.types import Denoise, Image, Latent

Steer = Callable[[Denoise, slice], Denoise]
"""What changes the guided (x_t, t) -> x_0 of the samples in a slice of a request; see `diffusion.wrappers`."""

WHOLE = 16
"""Times the area of training that a picture may have to go through the denoiser as a whole, if nothing else is said."""


@dataclass(frozen=True)
class Plan:
    """How to sample.

    Args:
        sampler: the integrator.
        grid: where its steps lie.
        guidance: how strongly the wish is followed.
        steps: number of steps.
        batch: samples per network call; changes speed and memory, not pictures. It is meant for the size of training:
            of larger pictures fewer go together, of windows as many.
        window: side in pixels of the windows through which the denoiser sees larger pictures; 0 = it always sees the
            whole. None = the side of training for pictures of more than `WHOLE` times its area, else the whole.
    """

    sampler: Sampler = field(default_factory=DPMpp2M)
    grid: Grid = field(default_factory=Karras)
    guidance: Guidance = field(default_factory=lambda: ClassifierFree(3.0))
    steps: int = 20
    batch: int = 16
    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and not 0 <= self.window <= 65_536:
            raise ValueError(f"window must lie in 0 ... 65536 pixels, got {self.window}; 0 = none")
        for name, low, high in (("steps", 1, 10_000), ("batch", 1, 65_536)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in {low} ... {high}, got {getattr(self, name)}")

    def times(self, schedule: Schedule, variance: Variance) -> Tensor:
        """The grid's times for a denoiser of this schedule and variance; raises `UserError` if they do not fit."""
        times = self.grid(schedule, self.steps)
        self.sampler.check(times, schedule, variance)
        return times

    def windows(self, model: LatentDiffusion, height: int, width: int) -> int | None:
        """The side in pixels of the windows for pictures of this size; None = they are seen as a whole.

        Raises:
            UserError: a window that the model cannot see through.
        """
        unit = multiple_of(model)
        if self.window is not None and self.window % unit:
            raise UserError(
                f"a window of {self.window} pixels is no multiple of the {unit} that this model works in; take "
                f"{near(self.window, unit)}, best {model.side}, which it was trained at"
            )
        size = self.window
        if size is None:
            size = model.side if height * width > WHOLE * model.side**2 else 0
        return size if 0 < size < max(height, width) else None


@dataclass(frozen=True)
class Start:
    """A picture to begin with in place of noise: Meng et al. 2022 (SDEdit), https://arxiv.org/abs/2108.01073.

    Args:
        z: its latent (1, C, h, w), or n of them.
        strength: the share of the plan's steps that are taken, in [0, 1]: 0 gives the latent back, 1 keeps little.
    """

    z: Latent
    strength: float = 0.75


@dataclass(frozen=True)
class Update:
    """Where sampling is.

    Args:
        first: index of the batch's first sample.
        step: steps done, of `steps`; both are 0 where a start leaves none to be taken.
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
    start: Start | None = None,
    steer: Steer | None = None,
) -> Iterator[Update]:
    """Sample n pictures batch by batch.

    Args:
        wishes: batch entry -> n values ("caption": n strings); empty for an unconditional picture.
        height, width: pixels; the training side if None. Multiples of the autoencoder's factor.
        start: what to begin with; None = noise.
        steer: comes after the plan's guidance: a classifier, a known part, ...

    Raises:
        UserError: a wish of a kind that the model does not take, a plan that its schedule or its sizes do not allow, a
            strength outside [0, 1].
        ValueError: sizes that do not fit, or numbers of wishes that differ from n.
    """
    for key, values in wishes.items():
        if len(values) != n:
            raise ValueError(f"{n} samples need {n} entries of {key!r}, got {len(values)}")
    model.conditioner.check(wishes)
    height, width = height or model.side, width or model.side
    shape = model.autoencoder.latent_shape(height, width)
    if start is not None and (start.z.shape[1:] != shape or len(start.z) not in (1, n)):
        raise ValueError(f"{n} samples of {shape} cannot begin with latents of {tuple(start.z.shape)}")
    device = next(model.denoiser.parameters()).device
    schedule = model.denoiser.schedule
    denoiser = _seen_through(model, plan, height, width)
    times = plan.times(schedule, model.denoiser.variance)
    if start is not None:
        times = part_of(times, start.strength)
    steps = len(times) - 1
    batch = max(1, min(plan.batch, plan.batch * model.side**2 // (height * width)))
    for first in range(0, n, batch):
        last = min(n, first + batch)
        noise = SampleNoise.range(seed, last - first, first)
        x = noise.initial(shape, device)
        if start is None:
            x = x * float(schedule.at(times[0])[1])
        else:
            z = start.z[first:last] if len(start.z) == n else start.z
            x = start_from(z.to(x).expand_as(x), x, times, schedule)
        if steps == 0:
            yield Update(first, 0, 0, x, _decode(model, x))
            continue
        with torch.no_grad():
            rows = {k: list(v[first:last]) for k, v in wishes.items()}
            cond, null = model.conditions(rows, last - first)
            if not model.conditioner.guided:
                null = cond  # there is nothing to strengthen, and no need to ask twice
        denoise = plan.guidance(denoiser, cond, null)
        if steer is not None:
            denoise = steer(denoise, slice(first, last))
        for step, state in enumerate(plan.sampler(denoise, x, times, schedule, noise), 1):
            done = step == steps
            yield Update(first, step, steps, state.x_0, _decode(model, state.x) if done else None)


def _seen_through(model: LatentDiffusion, plan: Plan, height: int, width: int) -> ConditionalDenoise:
    window = plan.windows(model, height, width)
    if window is None:
        return model.denoiser
    return Windowed(model.denoiser, window // model.autoencoder.factor, batch=plan.batch)


@torch.no_grad()
def _decode(model: LatentDiffusion, z: Latent) -> Image:
    factor = model.autoencoder.factor
    height, width = z.shape[2] * factor, z.shape[3] * factor
    if height * width <= model.side**2:
        return model.decode(z).clamp(-1.0, 1.0)
    whole = tiling.fits(model.autoencoder, height, width)
    each = (model.decode(one) if whole else tiling.decode(model.autoencoder, one) for one in torch.split(z, 1))
    return torch.cat([x.clamp(-1.0, 1.0) for x in each])


def images(model: LatentDiffusion, wishes: Mapping[str, Sequence[Any]], plan: Plan, *, n: int, seed: int) -> Tensor:
    """The finished pictures of `generate`, (n, 3, H, W) in [-1, 1] on the CPU."""
    return torch.cat([u.image.cpu() for u in generate(model, wishes, plan, n=n, seed=seed) if u.image is not None])

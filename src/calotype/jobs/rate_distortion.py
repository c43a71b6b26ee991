"""What a finished model spends its bits on: RUN and pictures -> everything that rate and distortion can say about it.

    curve          bits against error of progressive coding, see `evaluation.rate_distortion`
    bound          the bits of the whole chain, by its parts, see `diffusion.likelihood`
    first stage    what the autoencoder loses by itself, and the bits of its latent with no diffusion model to code it
    flow           the likelihood of the deterministic sampler on a few pictures, see `diffusion.probability_flow`

All in bits for each of the 3 H W numbers of a picture. Nobody tells the receiver what is in the picture: conditions are
null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from calotype.autoencoder.base import PixelSpace
from calotype.autoencoder.latent import LatentAutoencoder
from calotype.console import counting
from calotype.data.loader import pictures
from calotype.data.source import Source
from calotype.diffusion.grids import Grid, LogSNRGrid
from calotype.diffusion.guidance.base import adjusted
from calotype.diffusion.likelihood import Estimate, VariationalBound, continuous_bound, discrete_bound
from calotype.diffusion.probability_flow import CELL, bits_per_dimension, dequantized, log_density
from calotype.diffusion.readout import Discretized, Gaussian
from calotype.errors import UserError
from calotype.evaluation.latents import LatentCensus
from calotype.evaluation.rate_distortion import RateDistortion, rate_distortion
from calotype.evaluation.reconstruction import psnr
from calotype.evaluation.runner import Spread
from calotype.jobs.report import few
from calotype.losses.perceptual import Perceptual, PerceptualDistance
from calotype.model import LatentDiffusion, model_folder
from calotype.rng import SampleNoise, fold
from calotype.runtime import best_device
from calotype.types import Batch, Denoise, Image, Latent

AT_ONCE = 32 * 64 * 64
"""Pixels of a batch."""

TERMS = 50
"""Steps of the chain that the bound visits for each picture, at most."""


@dataclass(frozen=True)
class Coding:
    """How pictures are sent.

    Args:
        grid: where the chain's steps lie. Equal steps in log-SNR come near the continuous limit with few of them; the
            papers' chain is `uniform` with steps=1000.
        steps: of the chain, one network call per picture each.
        points: of the curve.
        limit: pictures, evenly spread over the data.
        flow: pictures whose likelihood under the probability flow is measured, too, for models of pixels; 0 = none.
        flow_steps: of the flow, four network calls and as many derivatives each.
        seed: of the noise; picture i meets the same for every model.

    Raises:
        ValueError: fewer than 2 steps, points or pictures, no step of the flow.
    """

    grid: Grid = field(default_factory=LogSNRGrid)
    steps: int = 200
    points: int = 50
    limit: int = 1000
    flow: int = 16
    flow_steps: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("steps", 2), ("points", 2), ("limit", 2), ("flow_steps", 1)):
            if not low <= getattr(self, name) <= 1_000_000:
                raise ValueError(f"{name} must lie in {low} ... 1,000,000, got {getattr(self, name)}")
        if self.flow == 1 or not 0 <= self.flow <= 1_000_000:
            raise ValueError(f"flow must be 0 (not measured) or lie in 2 ... 1,000,000, got {self.flow}")


@dataclass(frozen=True)
class Bound:
    """An upper bound on the bits of a picture, number by number, with standard errors over pictures.

    Args:
        prior, terms, readout, total: its parts, and their sum.
        discrete: whether `readout` and `total` are bits of the 8-bit picture; else of a density of latents, which may
            be negative and says nothing about files.
    """

    prior: Estimate
    terms: Estimate
    readout: Estimate
    total: Estimate
    discrete: bool


@dataclass(frozen=True)
class FirstStage:
    """An autoencoder by itself, measured as the points of a curve are.

    Args:
        rate: bits of the latent under its own prior or codebook; None if it has none, see `evaluation.latents`.
        rmse: root of the mean squared error over all pictures, 0 ... 255.
        psnr: dB.
        perceptual: perceptual distance.
    """

    rate: float | None
    rmse: float
    psnr: Spread
    perceptual: Spread


@dataclass(frozen=True)
class Flow:
    """Two answers about the same dequantised pictures, in bits per number.

    Args:
        likelihood: -log2 p of the probability flow; the number of pictures is its n.
        bound: the variational bound of infinitely many steps.
        above: bound - likelihood, picture by picture.
    """

    likelihood: Estimate
    bound: Estimate
    above: Estimate


@dataclass(frozen=True)
class Coded:
    """What was found of one model.

    Args:
        factor: of its first stage; 1 for pixels.
        curve: rate and distortion, from noise to data.
        logsnr: at the curve's points.
        bound: of the same chain.
        first_stage: None for pixels.
        flow: None for latents, or if it was not asked for.
    """

    factor: int
    curve: RateDistortion
    logsnr: tuple[float, ...]
    bound: Bound
    first_stage: FirstStage | None
    flow: Flow | None


def open_models(runs: Sequence[Path]) -> list[LatentDiffusion]:
    """The models of finished runs, checked, on the best device.

    Raises:
        UserError: no finished model there, an autoencoder alone, pictures of different sizes, or a model that was
            always told what is in a picture.
    """
    models = [LatentDiffusion.load(model_folder(run)) for run in runs]
    for run, model in zip(runs, models, strict=True):
        if model.side != models[0].side:
            raise UserError(
                f"{run} makes pictures of {model.side} pixels and {runs[0]} of {models[0].side}; rates and distances "
                "of different sizes cannot be compared, so measure them one by one"
            )
        if not model.conditioner.knows_null:
            raise UserError(
                f"{run} was trained without dropping any wish, so it does not know pictures of which nothing is said; "
                "train it again with drop=0.1"
            )
    return [model.to(best_device()) for model in models]


def code(model: LatentDiffusion, source: Source, coding: Coding) -> Coded:
    """Measure one model.

    Raises:
        UserError: fewer than 2 readable pictures, or a grid that the model's schedule has not.
    """
    schedule, distance = model.denoiser.schedule, Perceptual().to(best_device())
    times, pixels = coding.grid(schedule, coding.steps), isinstance(model.autoencoder, PixelSpace)
    source = few(source, coding.limit)
    with counting(f"sending {len(source)} pictures", len(source)) as advance:
        curve = rate_distortion(
            model,
            _told(_batches(source, model.side), advance),
            times,
            seed=coding.seed,
            points=coding.points,
            clip=pixels,
            perceptual=distance,
            pictures=f"pictures of {source.name}",
        )
    with counting(f"bounding {len(source)} pictures", len(source)) as advance:
        bound = _bound(model, _told(_batches(source, model.side), advance), times, coding.seed)
    logsnr = schedule.logsnr(torch.tensor(curve.times, dtype=torch.float64))
    return Coded(
        model.autoencoder.factor,
        curve,
        tuple(logsnr.tolist()),
        bound,
        _first_stage(model.autoencoder, _batches(source, model.side), distance)
        if isinstance(model.autoencoder, LatentAutoencoder)
        else None,
        _flow(model, few(source, coding.flow), coding) if pixels and coding.flow else None,
    )


@torch.no_grad()
def received(model: LatentDiffusion, x: Image, index: Sequence[int], times: Tensor, seed: int) -> Iterator[Image]:
    """What a receiver shows at each of these times (K,), given pictures x (B, 3, H, W): decoded x_0_hat(x_t), with the
    same noise at all times."""
    x = x.to(best_device())
    z, denoise = model.autoencoder.encode(x), _denoise(model, len(x))
    eps = _noise(seed, "received", index)(z)
    for t in times:
        x_t = model.denoiser.schedule.perturb(z, eps, t.expand(len(x)).to(z.device))
        yield model.decode(denoise(x_t, t.expand(len(x)).to(z.device))).clamp(-1, 1).cpu()


def _denoise(model: LatentDiffusion, n: int) -> Denoise:
    """E[x_0 | x_t], in range where there is one."""
    denoise: Denoise = model.denoiser.bind(model.null(n))
    return adjusted(denoise, _in_range) if isinstance(model.autoencoder, PixelSpace) else denoise


def _in_range(x_0: Latent, x_t: Latent, t: Tensor) -> Latent:
    return x_0.clamp(-1, 1)


def _bound(model: LatentDiffusion, batches: Iterator[Batch], times: Tensor, seed: int) -> Bound:
    pixels = isinstance(model.autoencoder, PixelSpace)
    found, share = [], 1.0
    for batch in batches:
        x = batch["image"]
        z = model.autoencoder.encode(x)
        share = z[0].numel() / x[0].numel()  # bits per number of the latent -> per number of the picture
        found.append(
            discrete_bound(
                _denoise(model, len(x)),
                z,
                times,
                model.denoiser.schedule,
                _noise(seed, "bound", batch["index"].tolist()),
                variance=model.denoiser.variance,
                readout=Discretized() if pixels else Gaussian(),
                terms=min(TERMS, len(times) - 2),
            )
        )
    bound = VariationalBound.cat(found)
    prior, terms, readout = (share * part for part in (bound.prior, bound.terms.sum(1), bound.readout))
    total = prior + terms + readout
    return Bound(Estimate.of(prior), Estimate.of(terms), Estimate.of(readout), Estimate.of(total), pixels)


@torch.no_grad()
def _first_stage(autoencoder: LatentAutoencoder, batches: Iterator[Batch], distance: PerceptualDistance) -> FirstStage:
    census = LatentCensus(autoencoder)
    mse, decibel, perceived = [], [], []
    for batch in batches:
        x = batch["image"]
        y = autoencoder.decode(census.encode(x)).clamp(-1, 1)
        mse.append((y - x).square().flatten(1).mean(1).double().cpu())
        decibel.append(psnr(y, x).cpu())
        perceived.append(distance(y, x).double().cpu())
    bits = census.scores().bits_per_pixel
    return FirstStage(
        None if bits is None else bits / 3,
        127.5 * math.sqrt(float(torch.cat(mse).mean())),
        Spread.of(torch.cat(decibel)),
        Spread.of(torch.cat(perceived)),
    )


def _flow(model: LatentDiffusion, source: Source, coding: Coding) -> Flow:
    """Where the chain ends is where noise is as wide as what dequantisation adds: below it, a network that has seen
    8-bit values only would find every other value impossible."""
    schedule, seed = model.denoiser.schedule, coding.seed
    t_min = float(schedule.time(torch.tensor(-2 * math.log(CELL / math.sqrt(12)), dtype=torch.float64)).clamp(min=1e-3))
    likelihood, bound = [], []
    with counting(f"following the flow of {len(source)} pictures", len(source)) as advance:
        for batch in _told(_batches(source, model.side), advance):
            index = batch["index"].tolist()
            x = dequantized(batch["image"], _noise(seed, "cells", index))
            denoise = model.denoiser.bind(model.null(len(x)))
            log_p = log_density(
                denoise, x, schedule, _noise(seed, "trace", index), steps=coding.flow_steps, t_min=t_min
            )
            likelihood.append(bits_per_dimension(log_p, x, CELL).double().cpu())
            found = continuous_bound(denoise, x, schedule, _noise(seed, "limit", index), terms=TERMS, t_min=t_min)
            bound.append(found.total - math.log2(CELL))
    flow, limit = torch.cat(likelihood), torch.cat(bound)
    return Flow(Estimate.of(flow), Estimate.of(limit), Estimate.of(limit - flow))


def _batches(source: Source, side: int) -> Iterator[Batch]:
    """Pictures on the best device, and their numbers; wishes stay behind."""
    for batch in pictures(source, side, max(1, AT_ONCE // side**2)):
        yield {"index": batch["index"], "image": batch["image"].to(best_device())}


def _told(batches: Iterable[Batch], advance: Callable[[int], None]) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        advance(len(batch["index"]))


def _noise(seed: int, purpose: str, index: Sequence[int]) -> SampleNoise:
    """Picture i draws from a generator of its own."""
    return SampleNoise([fold(seed, purpose, int(i)) for i in index])

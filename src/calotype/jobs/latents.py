"""What the jobs do with latents: their statistics are measured once, and training reads them from a cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from calotype import ranks
from calotype.autoencoder.base import Autoencoder, PixelSpace
from calotype.autoencoder.latent import LatentAutoencoder
from calotype.autoencoder.latent_space import LatentSpace
from calotype.autoencoder.statistics import Posterior
from calotype.console import counting
from calotype.data.latent_cache import LatentCache, LatentLoader
from calotype.data.loader import Loader, pictures
from calotype.data.source import Source
from calotype.errors import UserError
from calotype.model import load_autoencoder
from calotype.rng import Draws
from calotype.runs import AutoencoderRun, ClassifierRun, DiffusionRun
from calotype.runtime import autocast
from calotype.training.config import TrainerConfig
from calotype.types import Batch


def normalise_latents(autoencoder: LatentAutoencoder, source: Source, config: AutoencoderRun, folder: Path) -> None:
    """Set the statistics of the latents: those that `folder` holds for these very weights, else measured ones.

    Statistics are part of the latent space: measured again, on data that have changed meanwhile or on another machine,
    they would silently become those of another autoencoder than the one that denoisers were trained with.
    """
    with contextlib.suppress(UserError):  # no model there, or none that can be used: there is nothing to keep
        old = load_autoencoder(folder).to(next(autoencoder.parameters()).device)
        if isinstance(old, LatentAutoencoder) and _same_weights(old, autoencoder):
            autoencoder.stats.set(old.stats.mean, old.stats.std)
            return
    rule = config.statistics
    with counting("measuring latents", len(source) if rule.pictures is None else rule.pictures) as advance:
        posteriors = _posteriors(autoencoder, _looked_at(source, config), config.trainer, advance)
        autoencoder.stats.set(*rule.measure(posteriors, autoencoder.channels))


def _same_weights(a: LatentAutoencoder, b: LatentAutoencoder) -> bool:
    """Whether two autoencoders differ in nothing but the statistics of their latents."""
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(
        name.startswith("stats.") or torch.equal(value, other[name]) for name, value in one.items()
    )


def _looked_at(source: Source, config: AutoencoderRun) -> Iterator[Batch]:
    """This rank's share of the pictures that the rule of the statistics looks at."""
    data, rank, n = config.data, ranks.index(), ranks.size()
    if config.statistics.pictures is None:
        rows = range(rank * len(source) // n, (rank + 1) * len(source) // n)
        return pictures(source, data.side, rows=rows)
    seed = config.trainer.seed
    first = next(Loader(source, data.side, config.statistics.pictures, seed, data.augment, data.balance).batches())
    mine = torch.arange(len(first["index"])).tensor_split(n)[rank]
    return iter([{key: first[key][mine] for key in ("index", "epoch", "image")}] if len(mine) else [])


def _posteriors(
    autoencoder: LatentAutoencoder, batches: Iterable[Batch], trainer: TrainerConfig, advance: Callable[[int], None]
) -> Iterator[Posterior]:
    """What the autoencoder says about pictures, raw."""
    device = next(autoencoder.parameters()).device
    for batch in batches:
        with torch.no_grad(), autocast(trainer.precision, device):
            mu, s = autoencoder.raw_moments(batch["image"].to(device))
        yield Posterior(mu, s, partial(Draws.of(trainer.seed, 0, batch).normal, "statistics"))
        advance(len(batch["index"]))


def latent_loader(
    source: Source,
    config: DiffusionRun | ClassifierRun,
    autoencoder: Autoencoder,
    space: LatentSpace,
    folder: Path,
    reads: Collection[str] = (),
) -> LatentLoader | Loader:
    """Of batches from a latent cache, or of pictures where there is nothing to cache.

    Args:
        reads: the entries that batches are to have.
    """
    data, trainer = config.data, config.trainer
    companions = data.offer(source).read_by(reads)
    # a picture that is cut in many sizes has as many latents
    if isinstance(autoencoder, PixelSpace) or data.zoom < 1:
        return Loader(
            source,
            data.side,
            trainer.batch_size,
            trainer.seed,
            data.augment,
            data.balance,
            companions=companions,
        )
    device = next(autoencoder.parameters()).device

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), autocast(trainer.precision, device):
            return autoencoder.moments(images.to(device))

    with counting("encoding pictures", len(source)) as advance:
        cache = LatentCache.open(
            folder,
            source,
            encode,
            side=data.side,
            autoencoder=space.autoencoder,
            flips=data.flip,
            advance=advance,
        )
    return LatentLoader(
        cache, source, trainer.batch_size, trainer.seed, data.balance, companions=companions, side=data.side
    )

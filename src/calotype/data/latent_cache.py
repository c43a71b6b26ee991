"""Latents computed once, read many times.

    CACHE/index.json                 what the latents are of: source, autoencoder, side, flips
    CACHE/latents.safetensors        mean and std (copies, n, C, h, w) in float16, index (n,)
    CACHE/bad.json                   sample -> why its picture could not be read
    CACHE/manifest.json
    CACHE.partial/000007             the same of pictures 7 * SHARD ..., while a large source is being encoded

An interrupted encoding goes on after the last complete shard, with the same bits as an uninterrupted one. Mean *and*
standard deviation are stored, so training draws a fresh posterior sample every time. With `flips` the mirrored pictures
are encoded too. A cache of another source, autoencoder or size is made anew, never used. float16 keeps three digits of
numbers of unit variance, finer than any noise the sampler ends at, in half the memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotype.data.companions import Companion, random_at
from calotype.data.loader import Bad, Row, ahead, collected, pictures
from calotype.data.order import BalancedOrder
from calotype.data.source import Source
from calotype.data.view import Cutter, View
from calotype.errors import BadImage, CorruptFile, UserError
from calotype.files import commit_directory, read_json, read_tensors, verify_directory, write_json, write_tensors
from calotype.rng import fold
from calotype.types import Batch

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]

VERSION = 2

SHARD = 4096
"""Pictures between two saves; a multiple of the batch that is encoded at once."""


class LatentCache:
    """Posterior means and standard deviations of a source's pictures, in memory.

    Args:
        mean, std: (copies, n, C, h, w); copy 1, if there is one, is of the mirrored pictures.
        index: (n,) the sample each belongs to.
        bad: samples that are absent, as their pictures could not be read, and why.
    """

    def __init__(self, mean: Tensor, std: Tensor, index: Tensor, bad: Mapping[int, str] | None = None) -> None:
        self.mean, self.std, self.index, self.bad = mean, std, index, dict(bad or {})

    @classmethod
    def open(
        cls,
        folder: Path,
        source: Source,
        encode: Encode,
        *,
        side: int,
        autoencoder: str,
        flips: bool,
        advance: Callable[[int], None] = lambda n: None,
    ) -> LatentCache:
        """The cache in `folder` if it is of exactly this, else a new one, written there atomically.

        Args:
            encode: images (B, 3, side, side) in [-1, 1] -> mean and std.
            autoencoder: hash of its weights.
            flips: encode mirrored copies too.
            advance: told how many pictures were encoded.

        Raises:
            UserError: the source's pictures cannot be read, or the autoencoder's latents are not finite.
            DiskFull: no room.
        """
        what = {
            "version": VERSION,
            "source": source.fingerprint(),
            "autoencoder": autoencoder,
            "side": side,
            "flips": flips,
        }
        cached = cls._read(folder, what)
        if cached is not None:
            advance(len(source))
            return cached
        partial = folder.with_name(f"{folder.name}.partial")
        bad, shards = Bad(source.total), []
        for start in range(0, len(source), SHARD):
            rows, kept = range(len(source))[start : start + SHARD], partial / f"{start // SHARD:06d}"
            part = what | {"rows": [rows.start, rows.stop]}
            shard = cls._read(kept, part)
            if shard is not None:
                advance(len(rows))
                bad.messages.update(shard.bad)
            else:
                shard = cls._encode(source, encode, rows, bad, side, flips, advance)
                if shard is not None and len(source) > SHARD:
                    shard._write(kept, part)
            if shard is not None:
                shards.append(shard)
        if not shards:
            raise UserError(f"no picture of {source.name} can be read")
        cache = cls(
            torch.cat([s.mean for s in shards], 1),
            torch.cat([s.std for s in shards], 1),
            torch.cat([s.index for s in shards]),
            bad.messages,
        )
        cache._write(folder, what)
        shutil.rmtree(partial, ignore_errors=True)
        return cache

    @classmethod
    def _encode(
        cls,
        source: Source,
        encode: Encode,
        rows: range,
        bad: Bad,
        side: int,
        flips: bool,
        advance: Callable[[int], None],
    ) -> LatentCache | None:
        means: list[list[Tensor]] = [[], []] if flips else [[]]
        stds: list[list[Tensor]] = [[], []] if flips else [[]]
        index = []
        for batch in pictures(source, side, rows=rows, bad=bad):
            index.append(batch["index"])
            for copy in range(len(means)):
                image = batch["image"].flip(-1) if copy else batch["image"]
                mean, std = encode(image)
                # One memory layout, as a cache read from disk has: kernels round differently by layout, and a resumed
                # run has to repeat every bit.
                means[copy].append(_half(mean))
                stds[copy].append(_half(std))
            advance(len(batch["index"]))
        if not index:
            return None
        return cls(
            torch.stack([torch.cat(m) for m in means]),
            torch.stack([torch.cat(s) for s in stds]),
            torch.cat(index),
            {i: why for i, why in bad.messages.items() if i in rows},
        )

    def _write(self, folder: Path, what: dict[str, Any]) -> None:
        with commit_directory(folder) as new:
            write_json(new / "index.json", what)
            write_json(new / "bad.json", {str(i): why for i, why in self.bad.items()})
            write_tensors(new / "latents.safetensors", {"mean": self.mean, "std": self.std, "index": self.index})

    @classmethod
    def _read(cls, folder: Path, what: dict[str, Any]) -> LatentCache | None:
        if not (folder / "index.json").is_file():
            return None
        try:
            verify_directory(folder)
            if read_json(folder / "index.json") != what:
                return None
            tensors, bad = read_tensors(folder / "latents.safetensors"), read_json(folder / "bad.json")
        except CorruptFile:  # it can be made again
            return None
        return cls(tensors["mean"], tensors["std"], tensors["index"], {int(i): why for i, why in bad.items()})


def _half(x: Tensor) -> Tensor:
    out = x.half().cpu().contiguous()
    if not out.isfinite().all():
        raise UserError(
            "the autoencoder gives latents that are not finite in float16; train it again, with a lower learning rate"
        )
    return out


class LatentLoader:
    """Batches of cached latents in the same order as `Loader`'s pictures.

    Args:
        cache: the latents.
        source: for captions and labels, and for the pictures that companions look at.
        batch_size, seed, balance: as for `Loader`.
        companions: more entries; they see the picture that a latent is of, mirrored where it is.
        side: pixels of that picture.
        threads: for decoding.
    """

    def __init__(
        self,
        cache: LatentCache,
        source: Source,
        batch_size: int,
        seed: int = 0,
        balance: float = 0.0,
        *,
        companions: Mapping[str, Companion] | None = None,
        side: int = 0,
        threads: int = 2,
    ) -> None:
        self.cache, self.source, self.batch_size, self.seed = cache, source, batch_size, seed
        self.bad = Bad(source.total)
        self.bad.messages.update(cache.bad)
        self._captions, self._labels = source.captions(), torch.tensor(source.labels())
        self.order = BalancedOrder(seed, self._labels[cache.index].tolist(), balance)
        self._companions, self._index = dict(companions or {}), cache.index.tolist()
        self._cutter, self._threads = Cutter(source, side, moves=False), threads

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches of step `start`, ...: "latent_mean" and "latent_std" (B, C, h, w) float32 instead of "image".

        Where companions are to look at a picture that can no longer be read, its latent is left out with it. Raises
        `UserError` when there are too many of those."""
        if not self._companions:
            for step in count(start):
                yield self._batch(*self.order.batch(step, self.batch_size), {})
        with (
            ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool,
            closing(ahead(lambda step: self._cut(step, pool), start)) as cuts,
        ):
            for rows, epochs, made in cuts:
                yield self._batch(rows, epochs, collected(made, self._companions))

    def _cut(self, step: int, pool: ThreadPoolExecutor) -> tuple[np.ndarray, np.ndarray, list[Row]]:
        """Rows of the cache, their epochs, and what the companions make of them; no tensor in sight, see
        `Loader.batches`."""
        wanted, epochs = self.order.batch(step, self.batch_size)
        rows, made = zip(*pool.map(self._row, wanted.tolist(), epochs.tolist()), strict=True)
        return np.array(rows), epochs, list(made)

    def _row(self, row: int, epoch: int) -> tuple[int, Row]:
        """A row of the cache, or the next one whose picture can be read, with what the companions make of it."""
        for r in ((row + offset) % len(self._index) for offset in range(len(self._index))):
            index = self._index[r]
            if index in self.bad.messages:
                continue
            try:
                cut = self._cutter(index, View(mirror=bool(self._copy(r, epoch))))
            except BadImage as error:
                self.bad.add(index, error)
                continue
            random = random_at(self.seed, index, epoch)
            return r, (index, {name: c.of(cut, random) for name, c in self._companions.items()})
        raise UserError(f"none of the {len(self._index)} pictures of {self.source.name} can be read any more")

    def _copy(self, row: int, epoch: int) -> int:
        return fold(self.seed, "copy", row, epoch) % len(self.cache.mean)

    def _batch(self, rows: np.ndarray, epochs: np.ndarray, entries: Mapping[str, Any]) -> Batch:
        copy = torch.tensor([self._copy(int(r), int(e)) for r, e in zip(rows, epochs, strict=True)])
        row = torch.from_numpy(rows)
        index = self.cache.index[row]
        return {
            **entries,
            "index": index,
            "epoch": torch.from_numpy(epochs),
            "latent_mean": self.cache.mean[copy, row].float(),
            "latent_std": self.cache.std[copy, row].float(),
            "caption": [self._captions[int(i)] for i in index],
            "label": self._labels[index],
        }

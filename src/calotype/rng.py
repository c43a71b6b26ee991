"""Randomness by position, never by stream.

Every random number of Calotype is a function of *where it is used*: the run's seed, the sample's index, the step, and
the name of the purpose. So the same seed gives the same image whatever the batch size, a resumed run draws what the
uninterrupted one would have drawn, and two ranks agree without talking.

    fold(seed, *ints) -> 63-bit seed      a hash of positions
    Draws(seed, step, indices, epochs)    the numbers of one training step, one generator per sample
    SampleNoise(seeds)                    the noise of a sampling loop, one generator per sample
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from calotype.types import Batch


def fold(seed: int, *positions: int | str) -> int:
    """A 63-bit seed that depends on every argument (BLAKE2b); order matters."""
    h = hashlib.blake2b(digest_size=8)
    for p in (seed, *positions):
        h.update(repr(p).encode() + b"|")
    return int.from_bytes(h.digest(), "little") >> 1


def generator(seed: int, *positions: int | str) -> torch.Generator:
    """A CPU generator at this position."""
    return torch.Generator().manual_seed(fold(seed, *positions))


@dataclass(frozen=True)
class Draws:
    """The random numbers of one training step; sample i's depend on (seed, step, indices[i], epochs[i], purpose) alone.

    Args:
        seed: the run's seed.
        step: the optimizer step.
        indices: (B,) global sample indices.
        epochs: (B,) how often each sample was seen before: a batch larger than the set holds a sample more than once,
            and each time it needs noise of its own. Default: all 0.
    """

    seed: int
    step: int
    indices: Sequence[int]
    epochs: Sequence[int] = ()

    @classmethod
    def of(cls, seed: int, step: int, batch: Batch) -> Draws:
        """The numbers for a batch: its "index" and, where the source counts them, its "epoch"."""
        epochs = batch["epoch"].tolist() if "epoch" in batch else ()
        return cls(seed, step, batch["index"].tolist(), epochs)

    def normal(self, purpose: str, like: Tensor) -> Tensor:
        """N(0, 1) of the shape, dtype and device of `like` (B, ...)."""
        return self._stack(purpose, like.shape[1:], torch.randn).to(like)

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """U[0, 1) of shape (B, *shape), float32 on the CPU."""
        return self._stack(purpose, torch.Size(shape), torch.rand)

    def _stack(self, purpose: str, shape: torch.Size, draw: object) -> Tensor:
        out = torch.empty(len(self.indices), *shape)
        epochs = self.epochs or [0] * len(self.indices)
        for row, index, epoch in zip(out, self.indices, epochs, strict=True):
            g = generator(self.seed, purpose, self.step, int(index), int(epoch))
            (row.normal_ if draw is torch.randn else row.uniform_)(generator=g)
        return out


@dataclass(frozen=True)
class SampleNoise:
    """The noise of a sampling loop: sample i draws from its own generator, so its image does not depend on the batch.

    Args:
        seeds: one seed per sample. `SampleNoise.range(seed, n)` makes image k of a request from `fold(seed, k)`.
    """

    seeds: Sequence[int]
    _generators: list[torch.Generator] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_generators", [torch.Generator().manual_seed(s & (2**63 - 1)) for s in self.seeds])

    @classmethod
    def range(cls, seed: int, n: int, start: int = 0) -> SampleNoise:
        """Samples start ... start + n - 1 of the request `seed`."""
        return cls([fold(seed, "sample", k) for k in range(start, start + n)])

    def initial(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """The first noise, (B, *shape) float32."""
        return torch.stack([torch.randn(*shape, generator=g) for g in self._generators]).to(device)

    def __call__(self, x: Tensor) -> Tensor:
        """Fresh noise like `x` (B, ...)."""
        return torch.stack([torch.randn(x.shape[1:], generator=g) for g in self._generators]).to(x)

"""A table of codes, kept alive.

Two things go wrong with codebooks: they start far from what the encoder says, and codes that nobody chooses never
learn. So the first batch in training sets the codes by k-means, and a code whose share of use has sunk too low is moved
to a vector of the present batch.

Ranks hold one codebook: all see the vectors of the whole batch where codes are placed, and count the choices of all.

The use is counted as in van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, appendix A.1: N <- g N + (1 - g) n.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calotype import ranks
from calotype.rng import generator

KMEANS_ROUNDS = 10
COUNT_DECAY = 0.99
SEARCHED = 2**24
"""Distances computed at once, 64 MiB of float32, however large the book."""


def _closest(v: Tensor, codes: Tensor) -> Tensor:
    """Index (N,) of the code (K, d) nearest to each vector (N, d), both float32; the first one among equals."""
    # Autocast would round the products to eight bits, and with them the choice.
    with torch.autocast(v.device.type, enabled=False):
        length = codes.square().sum(1)
        # |v - e|^2 without |v|^2, which is the same for all codes.
        parts = torch.split(v, max(1, SEARCHED // len(codes)))
        return torch.cat([(length - 2 * part @ codes.T).argmin(1) for part in parts])


def _drawn(v: Tensor, n: int, g: torch.Generator) -> Tensor:
    """n of the vectors (N, d), each at most once; if there are fewer than n, copies with a little noise follow.

    Two codes at one place would be one code: the first among equals is chosen, the other one never.
    """
    order = torch.randperm(len(v), generator=g).to(v.device)
    drawn = v[order.repeat(-(-n // len(v)))[:n]].clone()
    if n > len(v):
        scale = 0.1 * v.std(0) if len(v) > 1 else 0.1 * v.abs().mean(0)
        drawn[len(v) :] += scale * torch.randn(n - len(v), v.shape[1], generator=g).to(v)
    return drawn


class Codebook(nn.Module):
    """K codes of d numbers, (K, d) float32.

    Buffers: "used" (K,), running mean of how often a code is chosen per batch; "batches", number of training batches
    seen. Both belong to checkpoints, so that a resumed run goes on as if it had not stopped.

    Args:
        size: K.
        width: d.
        learned: whether the codes are a parameter (gradient) or a buffer (running means).
        revive: a code is moved once its share of use is less than this part of an equal share; 0 = never.
        cosine: compare directions only: vectors and codes have length 1.
        seed: of the choice of vectors that dead codes are moved to.
    """

    codes: Tensor
    used: Tensor
    batches: Tensor

    def __init__(
        self, size: int, width: int, *, learned: bool, revive: float = 0.0, cosine: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.revive, self.cosine, self.seed = revive, cosine, seed
        codes = torch.empty(size, width).uniform_(-1 / size, 1 / size)
        if learned:
            self.codes = nn.Parameter(codes)
        else:
            self.register_buffer("codes", codes)
        self.register_buffer("used", torch.zeros(size))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @property
    def size(self) -> int:
        """K."""
        return len(self.codes)

    def table(self) -> Tensor:
        """The codes as they are compared and read, (K, d)."""
        return F.normalize(self.codes, dim=1) if self.cosine else self.codes

    def vectors(self, v: Tensor) -> Tensor:
        """Vectors (N, d) as they are compared: float32 whatever they came in, because rounding chooses wrong codes."""
        v = v.float()
        return F.normalize(v, dim=1) if self.cosine else v

    @torch.no_grad()
    def nearest(self, v: Tensor) -> Tensor:
        """Index (N,) of the code nearest to each of `vectors(v)`, the first one among equals."""
        return _closest(v, self.table().float())

    @torch.no_grad()
    def attend(self, v: Tensor) -> None:
        """What a training step does before it chooses: start the codes by k-means, or move dead ones.

        v (N, d) as `vectors` returns them."""
        if self.batches == 0:
            self.codes.copy_(ranks.first(self._means(ranks.gathered(v))))
        elif self.revive > 0:
            least = self.revive * self.used.mean()
            dead = (self.used < least).nonzero()[:, 0]
            if len(dead):
                # An optimizer's moments stay with the old place, and need no reset: by Cauchy-Schwarz Adam's |m| is at
                # most 7.3 sqrt(v) with its usual betas, and the quotient falls by b1 / sqrt(b2) in every step, so that
                # all steps after the move together are below 70 learning rates (2.1 with betas 0.5, 0.9).
                g = generator(self.seed, "revive", int(self.batches))
                moved = ranks.first(_drawn(ranks.gathered(v), len(dead), g)).to(self.codes)
                # A bad batch is undone by putting buffers back; learned codes are a parameter, and would stay broken.
                if bool(moved.isfinite().all()):
                    self.codes[dead] = moved
                    self.used[dead] = least

    def choices(self, index: Tensor) -> Tensor:
        """How often each code was chosen, (K,) float32, from choices (N,)."""
        return torch.bincount(index, minlength=self.size).float()

    @torch.no_grad()
    def count(self, index: Tensor) -> None:
        """Count one training batch's choices (N,) in `used` and `batches`."""
        n = ranks.total(self.choices(index))
        self.used.copy_(n if self.batches == 0 else torch.lerp(self.used, n, 1 - COUNT_DECAY))
        self.batches += 1

    def _means(self, v: Tensor) -> Tensor:
        """Lloyd's k-means from random vectors; where there are fewer vectors than codes, copies with a little noise."""
        g = generator(self.seed, "k-means")
        means = _drawn(v, self.size, g)
        if len(v) < self.size:
            return means
        for _ in range(KMEANS_ROUNDS):
            index = _closest(v, means)
            n = self.choices(index)[:, None]
            sums = torch.zeros_like(means).index_add_(0, index, v)
            means = torch.where(n > 0, sums / n.clamp_min(1), means)
        return means

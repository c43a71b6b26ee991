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
        codes = self.table().float()
        with torch.autocast(v.device.type, enabled=False):
            # |v - e|^2 without |v|^2, which is the same for all codes.
            return torch.cat([(codes.square().sum(1) - 2 * part @ codes.T).argmin(1) for part in torch.split(v, 16384)])

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
                v = ranks.gathered(v)
                # Different vectors as long as there are some: two codes at one place would be one code again. An
                # optimizer's moments of a dead code have long decayed, as nobody has asked it to move.
                order = torch.randperm(len(v), generator=generator(self.seed, "revive", int(self.batches))).to(v.device)
                self.codes[dead] = v[order.repeat(-(-len(dead) // len(v)))[: len(dead)]].to(self.codes)
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
        order = torch.randperm(len(v), generator=g).to(v.device)
        means = v[order.repeat(-(-self.size // len(v)))[: self.size]].clone()
        if len(v) < self.size:
            scale = 0.1 * v.std(0) if len(v) > 1 else v.abs().mean(0)
            means[len(v) :] += scale * torch.randn(self.size - len(v), v.shape[1], generator=g).to(v)
            return means
        for _ in range(KMEANS_ROUNDS):
            index = torch.cat(
                [(means.square().sum(1) - 2 * part @ means.T).argmin(1) for part in torch.split(v, 16384)]
            )
            n = self.choices(index)[:, None]
            sums = torch.zeros_like(means).index_add_(0, index, v)
            means = torch.where(n > 0, sums / n.clamp_min(1), means)
        return means

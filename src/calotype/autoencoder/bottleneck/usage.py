"""How much of a codebook is used, counted over a whole period instead of a batch.

    perplexity = exp( - sum_j p_j ln p_j ),   p_j = share of the vectors that chose code j

A batch cannot tell: with fewer vectors than codes it uses a part of them at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calotype import ranks


def perplexity(n: Tensor) -> Tensor:
    """exp of the entropy of the frequencies n / sum n, n (K,): between 1, one code for all, and K, all alike."""
    p = n / n.sum().clamp_min(1)
    return torch.exp(-torch.special.xlogy(p, p).sum())


@dataclass(frozen=True)
class CodeUsage:
    """What a codebook was used for in a period.

    Args:
        size: K, number of codes.
        vectors: number of vectors that chose.
        used: number of codes chosen at least once.
        perplexity: 1 ... min(K, vectors); the number of codes that would be as diverse if all were chosen alike.
        remedy: what helps against a collapse, as a half-sentence.
    """

    size: int
    vectors: int
    used: int
    perplexity: float
    remedy: str = ""

    @property
    def share(self) -> float:
        """used / K."""
        return self.used / self.size

    @property
    def ceiling(self) -> int:
        """What the perplexity could be at most."""
        return min(self.size, self.vectors)

    @property
    def collapsed(self) -> bool:
        """Whether the code says less than a tenth of what it could.

        A healthy codebook has a perplexity of half its ceiling or more; a collapsing one loses codes until a handful
        are left, or one. A tenth lies far from both. With less than eight possible codes nothing can be concluded.
        """
        return self.ceiling >= 8 and self.perplexity < max(1.5, self.ceiling / 10)

    def warning(self) -> str:
        """The figures of a collapse, and what helps."""
        return (
            f"the codebook collapses: {self.used} of {self.size} codes were used in the last epoch, as diverse as "
            f"{self.perplexity:.1f} codes used alike; {self.remedy or 'start anew with fewer codes'}"
        )


class Usage(nn.Module):
    """Counts choices until they are taken. Buffer: "counts" (K,) int64, part of checkpoints.

    Args:
        size: K.
        remedy: see `CodeUsage`.
    """

    counts: Tensor

    def __init__(self, size: int, remedy: str = "") -> None:
        super().__init__()
        self._remedy = remedy
        self.register_buffer("counts", torch.zeros(size, dtype=torch.long))

    @torch.no_grad()
    def count(self, index: Tensor) -> None:
        """Count the choices of all ranks, any shape of whole numbers in 0 ... K - 1."""
        self.counts += ranks.total(torch.bincount(index.flatten(), minlength=len(self.counts)))

    @torch.no_grad()
    def take(self) -> CodeUsage:
        """The usage since the last call; begins anew."""
        n = self.counts.double()
        taken = CodeUsage(len(n), int(n.sum()), int((n > 0).sum()), float(perplexity(n)), self._remedy)
        self.counts.zero_()
        return taken

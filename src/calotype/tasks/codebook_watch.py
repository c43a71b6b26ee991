"""How much of a codebook is used, counted over whole epochs, with an alarm when it collapses.

A batch cannot tell: with fewer vectors than codes it uses a part of them at most.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calotype import ranks
from calotype.autoencoder.bottleneck.usage import Usage
from calotype.types import Batch

TOLD_AFTER = 2
"""Collapsed epochs in a row before it is told."""


class CodebookWatch(nn.Module):
    """Takes the usage whenever an epoch has ended.

    Buffers: "epoch", the one being counted; "collapses", how many collapsed epochs there were in a row. Both belong to
    checkpoints.
    """

    epoch: Tensor
    collapses: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.register_buffer("collapses", torch.zeros((), dtype=torch.long))

    def look(self, usage: Usage, batch: Batch) -> tuple[dict[str, float], tuple[str, ...]]:
        """Call before the batch is counted.

        Returns:
            metrics ("epoch_codes_used" in [0, 1], "epoch_perplexity") and warnings; both empty within an epoch. A
            collapse is told once, in its second epoch: in the first one of a run an encoder is still on its way.
        """
        if "epoch" not in batch:
            return {}, ()
        # Ranks hold different parts of a batch; the mean's whole part is the same on all of them.
        epoch = int(ranks.mean(batch["epoch"].min().double()))
        if epoch <= int(self.epoch):
            return {}, ()
        self.epoch.fill_(epoch)
        seen = usage.take()
        if seen.vectors == 0:
            return {}, ()
        self.collapses.copy_(self.collapses + 1 if seen.collapsed else torch.zeros_like(self.collapses))
        news = (seen.warning(),) if int(self.collapses) == TOLD_AFTER else ()
        return {"epoch_codes_used": seen.share, "epoch_perplexity": seen.perplexity}, news

"""Batch normalisation over the whole batch, wherever its parts are.

    y = weight (x - mean) / sqrt(var + eps) + bias        mean, var: over B, H, W of all ranks

Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithm 1. Statistics of each rank's own pictures would be
another network: its logits, and all that is learned from them, would depend on how many ranks there are.
(`torch.nn.SyncBatchNorm` is the same idea, but only for accelerators.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calotype import ranks


class BatchNorm2d(nn.BatchNorm2d):
    """(B, C, H, W) -> the same shape; `nn.BatchNorm2d` itself in one process and in evaluation.

    Parameters, buffers and their names are those of `nn.BatchNorm2d`. The running variance is unbiased over the pixels
    of all ranks, as there over those of the batch.

    Args:
        channels: C.

    Raises:
        ValueError: in training, channels of one value over all ranks, which has no variance.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if not self.training or ranks.size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        # As torch does under autocast: statistics and arithmetic in float32, the result in the input's precision.
        wide = x if x.dtype == torch.float64 else x.float()
        local = wide.new_full((1,), wide.numel() // wide.shape[1])
        sums = ranks.total(torch.cat([wide.sum((0, 2, 3)), local]))
        n = sums[-1].detach()
        if n < 2:
            raise ValueError(f"batch normalisation in training needs more than one value per channel, got {int(n)}")
        mean = sums[:-1] / n
        centred = wide - mean.view(-1, 1, 1)
        # Not E x^2 - (E x)^2, which loses its digits where the mean is large.
        var = ranks.total(centred.square().sum((0, 2, 3))) / n
        self._follow(mean, var * n / (n - 1))
        y = centred * (self.weight * (var + self.eps).rsqrt()).view(-1, 1, 1) + self.bias.view(-1, 1, 1)
        return y.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics towards those of this batch."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(var.to(self.running_var), self.momentum)

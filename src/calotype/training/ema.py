"""Exponential moving average of weights.

    n <- n + 1;   d_n = min(d, (1 + n) / (10 + n));   w_ema <- d_n w_ema + (1 - d_n) w

The warm-up lets the average forget its random start: the first update has d_1 = 2/11.
Ho et al. 2020, https://arxiv.org/abs/2006.11239, appendix B (d = 0.9999); the warm-up follows TensorFlow's
`ExponentialMovingAverage(num_updates)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from calotype.errors import UserError


class EMA:
    """The average of a module's trainable parameters; buffers and frozen parameters are not averaged.

    Args:
        module: whose parameters are followed.
        decay: d in [0, 1); 0 follows the weights without delay.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"the decay of an average must lie in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._names = list(live)
        self._live: list[Tensor] = list(live.values())
        self._average = [p.detach().clone() for p in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights by one step."""
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, self._live, 1.0 - d)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module holds the average; afterwards the weights are back, bit for bit."""
        with torch.no_grad():
            backup = [p.detach().clone() for p in self._live]
            # Copying (rather than swapping storage) tells caches of prepared weights that the weights changed.
            torch._foreach_copy_(self._live, self._average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._live, backup)

    def tensors(self) -> dict[str, Tensor]:
        """The average by parameter name; not a copy."""
        return dict(zip(self._names, self._average, strict=True))

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Continue from a stored average; raises `UserError` if names or shapes differ."""
        for name, average in zip(self._names, self._average, strict=True):
            if name not in tensors or tensors[name].shape != average.shape:
                raise UserError(f"the stored average does not fit the configured network at {name}")
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(tensors[name])
        self.updates = updates

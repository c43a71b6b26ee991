"""What the network's time embedding is fed.

Inside Calotype time is t in [0, 1]; a network is told a number on the scale its embedding was made for. Table indices
exist only here and inside `Tabulated`: entry i of a table of T betas is t = (i + 1) / T, so `Clock(T, -1)` turns t back
into i = T t - 1, the "timestep" that Stable Diffusion's network expects.
"""

from __future__ import annotations

from dataclasses import dataclass

from calotype.types import Time


@dataclass(frozen=True)
class Clock:
    """t -> max(scale t + offset, 0)."""

    scale: float = 1000.0
    offset: float = 0.0

    def __call__(self, t: Time) -> Time:
        """Time (B,) in [0, 1] as the number (B,) that the network reads, in t's dtype."""
        # below the first table entry (t < 1/T) a network knows nothing: it is told the entry itself
        return (self.scale * t + self.offset).clamp(min=0)

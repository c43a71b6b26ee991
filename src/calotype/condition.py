"""What the denoiser is told besides x_t: a typed bundle of routes.

    tokens  (B, L, D)      read by cross-attention, with an optional mask (B, L), True = attend
    spatial (B, C, H, W)   concatenated to x_t along channels; (B, C, 1, 1) where it is the same everywhere
    vector  (B, D)         joined to the time embedding

Every route is optional and a missing one is `None`, never zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Routes:
    """The widths a conditioner fills and a network is built for: token width, spatial channels, vector width.

    `None` means that the route is not used."""

    tokens: int | None = None
    spatial: int | None = None
    vector: int | None = None

    @staticmethod
    def merge(routes: Sequence[Routes]) -> Routes:
        """The routes of several conditioners together; token widths must agree."""
        widths = {r.tokens for r in routes if r.tokens is not None}
        if len(widths) > 1:
            raise ValueError(f"conditioners must share one token width, got {sorted(widths)}")
        spatial = [r.spatial for r in routes if r.spatial is not None]
        vector = [r.vector for r in routes if r.vector is not None]
        return Routes(next(iter(widths), None), sum(spatial) or None, sum(vector) or None)


@dataclass(frozen=True)
class Condition:
    """One batch of conditions."""

    tokens: Tensor | None = None
    mask: Tensor | None = None
    spatial: Tensor | None = None
    vector: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None and self.mask is None:
            object.__setattr__(self, "mask", self.tokens.new_ones(self.tokens.shape[:2], dtype=torch.bool))

    def _map(self, f: Callable[[Tensor], Tensor]) -> Condition:
        values = (self.tokens, self.mask, self.spatial, self.vector)
        return Condition(*(None if v is None else f(v) for v in values))

    def _zip(self, f: Callable[[Tensor, Tensor], Tensor], other: Condition) -> Condition:
        out: list[Tensor | None] = []
        for name in ("tokens", "mask", "spatial", "vector"):
            a, b = getattr(self, name), getattr(other, name)
            if (a is None) != (b is None):
                raise ValueError(f"two conditions must use the same routes; only one has {name!r}")
            out.append(None if a is None else f(a, b))
        return Condition(*out)

    @property
    def routes(self) -> Routes:
        """The widths of the routes in use."""
        return Routes(
            None if self.tokens is None else self.tokens.shape[-1],
            None if self.spatial is None else self.spatial.shape[1],
            None if self.vector is None else self.vector.shape[-1],
        )

    def where(self, keep: Tensor, other: Condition) -> Condition:
        """Row i of this condition where keep[i] (B,) bool, of `other` elsewhere: per-sample condition dropping."""
        return self._zip(
            lambda a, b: torch.where(keep.to(a.device).view(-1, *[1] * (a.dim() - 1)), a, b.to(a.dtype)), other
        )

    def to(self, like: Tensor) -> Condition:
        """On the device and in the dtype of `like`; masks stay boolean."""
        return self._map(lambda v: v.to(like.device) if v.dtype == torch.bool else v.to(like))

    def to_like(self, other: Condition) -> Condition:
        """On the device and in the dtypes of another condition of the same routes."""
        return self._zip(lambda a, b: a.to(b), other)

    def expand(self, n: int) -> Condition:
        """A batch of one, repeated n times without copying."""
        return self._map(lambda v: v.expand(n, *v.shape[1:]))

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        return self._map(lambda v: v[rows])

    def cat(self, other: Condition) -> Condition:
        """Both batches after one another, for guidance in one network call."""
        return self._zip(lambda a, b: torch.cat(_alike([a, b.to(a.dtype)])), other)

    @staticmethod
    def merge(conditions: Sequence[Condition]) -> Condition:
        """Several conditioners' results as one: tokens after one another, spatial and vector along channels."""

        def join(name: str) -> Tensor | None:
            values = [v for c in conditions if (v := getattr(c, name)) is not None]
            return torch.cat(_alike(values), 1) if values else None

        return Condition(join("tokens"), join("mask"), join("spatial"), join("vector"))


def _alike(values: Sequence[Tensor]) -> list[Tensor]:
    """Maps that are the same everywhere are spread over the places of the others; raises `ValueError` for two sizes."""
    sizes = {v.shape[2:] for v in values if v.dim() == 4}
    places = sizes - {torch.Size((1, 1))}
    if len(places) > 1:
        raise ValueError(f"spatial conditions must be of one size, got {sorted(map(tuple, places))}")
    size = next(iter(places or sizes), ())
    return [v.expand(*v.shape[:2], *size) if v.dim() == 4 else v for v in values]

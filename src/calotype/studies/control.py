"""The control of a study of wishes: everybody gets what another one wished for.

A measure of obedience that is as high for other people's wishes measures what all pictures have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from calotype.rng import generator

V = TypeVar("V")


def derangement(n: int, seed: int) -> Tensor:
    """A permutation of 0 ... n - 1 without a fixed point, one cycle through all: (n,) long.

    Sattolo 1986, https://doi.org/10.1016/0020-0190(86)90073-6.

    Raises:
        ValueError: fewer than two, of which none could have another's.
    """
    if n < 2:
        raise ValueError(f"a wish can only be exchanged with another one, got {n}")
    order, random = torch.arange(n), generator(seed, "derangement")
    for i in range(n - 1, 0, -1):
        j = int(torch.randint(i, (), generator=random))
        order[[i, j]] = order[[j, i]]
    return order


@overload
def shuffled(values: Tensor, order: Tensor) -> Tensor:
    """Of a tensor."""


@overload
def shuffled(values: Sequence[V], order: Tensor) -> list[V]:
    """Of a list."""


def shuffled(values: Tensor | Sequence[Any], order: Tensor) -> Tensor | list[Any]:
    """values[order[i]] in place i, of a tensor or a list."""
    return values[order] if isinstance(values, Tensor) else [values[i] for i in order.tolist()]

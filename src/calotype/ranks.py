"""What the processes of one training run must agree on, and the few ways in which they talk.

N processes ("ranks") with B / N pictures each compute what one process with B would, up to rounding, if whatever is a
mean or a sum over the batch is taken over all ranks. Most of it are means that end in a gradient, and gradients are
linear: the trainer averages those once, at the end. What is not linear in the batch asks here: statistics of batch
normalisation, norms of gradients, counts of codes, moments of latents.

    size(), index()      how many ranks there are, and which one this is
    total(x), mean(x)    over ranks, differentiable
    average(tensors)     each becomes its mean, in place, in few messages
    gathered(x)          concatenated over ranks
    first(x)             that of rank 0

Without `torch.distributed.init_process_group` there is one rank: nothing is sent, tensors are returned as they came.
Every function that takes a tensor is a collective: all ranks must call it, in the same order, with the same dtype.
Means are exact where every rank holds equally many pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed

BUCKET = 2**23
"""Numbers that travel in one message, 32 MiB of float32: long enough to be quick, short beside the networks."""


def size() -> int:
    """Number of ranks N, 1 outside a process group."""
    return distributed.get_world_size() if _talking() else 1


def index() -> int:
    """Which rank this is, 0 ... N - 1."""
    return distributed.get_rank() if _talking() else 0


def total(x: Tensor) -> Tensor:
    """sum_r x_r, the same bits on every rank.

    Differentiable, any number of times: if rank r goes on to a loss L_r(y), y = sum_s x_s, then its x receives
    d (sum_s L_s) / d x_r = sum_s d L_s / d y, so gradients are those of the sum of the ranks' losses.

    Args:
        x: of the same shape on every rank; half precision is added up in float32.
    """
    if size() == 1:
        return x
    y: Tensor = _Total.apply(x)  # type: ignore[no-untyped-call]
    return y


def mean(x: Tensor) -> Tensor:
    """1 / N sum_r x_r, differentiable as `total` is.

    Raises:
        ValueError: integers, whose mean is none.
    """
    if not x.is_floating_point():
        raise ValueError(f"the mean over ranks needs floating-point numbers, got {x.dtype}; take the total")
    n = size()
    return x if n == 1 else total(_wide(x)).div(n).to(x.dtype)


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace every tensor by its mean over ranks, in place and without gradient.

    Args:
        tensors: the same number of them, in the same order and of the same shapes, on every rank.
    """
    if size() == 1:
        return
    for bucket in _buckets(tensors):
        flat = mean(torch.cat([x.reshape(-1) for x in bucket]))
        for x, part in zip(bucket, torch.split(flat, [x.numel() for x in bucket]), strict=True):
            x.copy_(part.view_as(x))


@torch.no_grad()
def gathered(x: Tensor) -> Tensor:
    """The ranks' tensors (n_r, ...) one after the other, (sum_r n_r, ...), without gradient.

    Args:
        x: (n_r, ...), n_r may differ between ranks, and may be 0.
    """
    if size() == 1:
        return x
    mine = torch.tensor(len(x), device=x.device)
    lengths = torch.stack(_each(mine)).tolist()
    # Equal lengths are what every backend can send.
    padded = x.new_zeros(max(lengths), *x.shape[1:])
    padded[: len(x)] = x
    return torch.cat([part[:n] for part, n in zip(_each(padded), lengths, strict=True)])


@torch.no_grad()
def first(x: Tensor) -> Tensor:
    """The tensor of rank 0, without gradient; the others' `x` only says what shape, dtype and device it has."""
    if size() == 1:
        return x
    x = x.detach().clone(memory_format=torch.contiguous_format)
    distributed.broadcast(x, 0)
    return x


def _talking() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _wide(x: Tensor) -> Tensor:
    """Half precision as float32, since a sum of it would be rounded at every addition; the rest as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _each(x: Tensor) -> list[Tensor]:
    x = x.contiguous()
    parts = [torch.empty_like(x) for _ in range(size())]
    distributed.all_gather(parts, x)
    return parts


def _buckets(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Runs of tensors of one dtype and device, of `BUCKET` numbers or one tensor."""
    out: list[list[Tensor]] = []
    room, kind = 0, None
    for x in tensors:
        if (x.dtype, x.device) != kind or x.numel() > room:
            room, kind = BUCKET, (x.dtype, x.device)
            out.append([])
        out[-1].append(x)
        room -= x.numel()
    return out


class _Total(torch.autograd.Function):
    """The sum over ranks, which is its own adjoint: the gradient of x_r is the sum of what all ranks ask of y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = _wide(x).clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(y)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return total(gradients[0])  # not the bare sum, so that a penalty on gradients can be differentiated again

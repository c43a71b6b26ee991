"""How fast training is, and how fast it could be.

    share = (FLOPs per image * images per second) / (FLOPs per second of a large matrix product)

The numerator counts the multiplications and additions of matrix products, convolutions and attention, forward and
backward; the denominator is measured here and now, because the printed peak of a processor says little about a shared
or virtual one. A share near 1 means that nothing but the matrix products takes time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


@dataclass(frozen=True)
class MatmulRate:
    """Measured speed of large matrix products, in FLOP/s.

    Args:
        fp32: single precision.
        bf16: bfloat16.
    """

    fp32: float
    bf16: float

    def of(self, dtype: torch.dtype) -> float:
        """The rate at this precision; raises `KeyError` for others than float32 and bfloat16."""
        return {torch.float32: self.fp32, torch.bfloat16: self.bf16}[dtype]


def _sdpa_forward(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return flops


def _sdpa_backward(grad: Any, query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
    flops: int = sdpa_backward_flop_count(grad, query, key, value)  # type: ignore[no-untyped-call]
    return flops


def _linear(x: Any, weight: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
    flops: int = 2 * math.prod(x) * weight[0]
    return flops


def _formulas() -> dict[Any, Any]:
    """What PyTorch's counter leaves out: attention on the CPU, and oneDNN's linear layer."""
    formulas = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa_forward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _sdpa_backward,
    }
    # A private operator that not every build has.
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return formulas | ({linear: _linear} if linear is not None else {})


def count_flops(work: Callable[[], object]) -> int:
    """Run `work` once and count the FLOPs of its matrix products, convolutions and attention, also in backward."""
    with FlopCounterMode(display=False, custom_mapping=_formulas()) as counter:
        work()
    return int(counter.get_total_flops())


def measure_matmul_rate(device: torch.device, seconds: float = 1.0) -> MatmulRate:
    """The best speed seen within about `seconds`, half of it for each precision."""
    return MatmulRate(_rate(device, torch.float32, seconds / 2), _rate(device, torch.bfloat16, seconds / 2))


@torch.no_grad()
def _rate(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    n = 1024 if device.type == "cpu" else 4096
    # Its own generator: looking at the speed must not change what training draws.
    g = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(n, n, device=device, generator=g).to(dtype) for _ in range(2))
    # The same product as a 1x1 convolution: on some processors another library, twice as fast, computes it.
    image = a.t().reshape(1, n, 32, -1).contiguous(memory_format=torch.channels_last)
    kernel = b.reshape(n, n, 1, 1).contiguous(memory_format=torch.channels_last)
    best = math.inf
    for product in (partial(torch.mm, a, b), partial(torch.conv2d, image, kernel)):
        end = time.perf_counter() + seconds / 2
        while True:
            _wait(device)
            start = time.perf_counter()
            product()
            _wait(device)
            now = time.perf_counter()
            best = min(best, now - start)
            if now > end:
                break
    return 2 * n**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Meter:
    """Adds up images, FLOPs and the time spent in steps.

    A task may do more work later in the run (a discriminator that joins); the names of a step's metrics tell, and
    each kind of step is counted once.

    Args:
        device: where training runs.
        dtype: the precision of its matrix products.
        measure: count FLOPs and measure the matrix product's speed; costs about a second and one step per kind.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, measure: bool) -> None:
        self.matmul_rate = measure_matmul_rate(device).of(dtype) if measure else 0.0
        self._measure = measure
        self._by_kind: dict[frozenset[str], int] = {}
        self.steps = self.images = self.flops = 0
        self.seconds = 0.0
        self._mark = (0, 0.0)

    def add(self, kind: frozenset[str], images: int, seconds: float, count: Callable[[], int]) -> None:
        """One step of this kind took so long; `count` is called if its FLOPs are not known yet."""
        if self._measure and kind not in self._by_kind:
            self._by_kind[kind] = count()
        self.steps += 1
        self.images += images
        self.seconds += seconds
        self.flops += self._by_kind.get(kind, 0)

    def recent(self) -> float:
        """Images per second since the last call."""
        images, seconds = self.images - self._mark[0], self.seconds - self._mark[1]
        self._mark = (self.images, self.seconds)
        return images / seconds if seconds else 0.0

    @property
    def images_per_second(self) -> float:
        """Over all steps."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def flops_per_second(self) -> float:
        """Over all steps; 0 if not measured."""
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def share(self) -> float:
        """`flops_per_second` over the speed of a large matrix product; 0 if not measured."""
        return self.flops_per_second / self.matmul_rate if self.matmul_rate else 0.0

"""The machine: allocator, device, precision. Importing this module loads no torch."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def tune_allocator() -> bool:
    """Let glibc keep large blocks instead of returning each to the kernel; returns whether it was done.

    By default every tensor above some size is mapped and unmapped anew, and its pages are cleared at first touch: tens
    of thousands of page faults per training step, a quarter to a third of its time on a CPU. Peak memory stays the
    same, but it is not given back before the process ends. Called when `calotype` is imported;
    `CALOTYPE_ALLOCATOR=default` turns it off.
    """
    if os.environ.get("CALOTYPE_ALLOCATOR") == "default" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 256 << 20}
    return all(mallopt(option, value) == 1 for option, value in settings.items())


def best_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@cache
def _cpu_has_fast_bf16() -> bool:
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:  # no Linux: nothing is known, and fp32 is never wrong
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Compute in this precision within the block; weights stay in float32.

    Args:
        precision: "fp32", "bf16", or "auto": bf16 where the hardware has it (CUDA, CPUs with AVX512-BF16 or AMX).

    Raises:
        ValueError: another word.
    """
    import torch

    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision must be 'auto', 'fp32' or 'bf16', got {precision!r}")
    fast = device.type == "cuda" or (device.type == "cpu" and _cpu_has_fast_bf16())
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and fast))

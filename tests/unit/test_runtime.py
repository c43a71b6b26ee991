"""Precision, device and allocator."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from calotype import runtime
from calotype.runtime import autocast, best_device

CPU = torch.device("cpu")


def product() -> torch.dtype:
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precisions(precision: str, dtype: torch.dtype) -> None:
    with autocast(precision, CPU):
        assert product() == dtype
    assert product() == torch.float32


@pytest.mark.parametrize(("fast", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_auto_follows_the_processor(fast: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_cpu_has_fast_bf16", lambda: fast)
    with autocast("auto", CPU):
        assert product() == dtype


def test_the_inner_precision_counts() -> None:
    with autocast("bf16", CPU), autocast("fp32", CPU):
        assert product() == torch.float32


def test_an_unknown_precision() -> None:
    with pytest.raises(ValueError, match="'fp16'"):
        autocast("fp16", CPU)


@pytest.mark.parametrize(
    ("cuda", "mps", "kind"), [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_best_device(cuda: bool, mps: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device().type == kind


def in_a_new_process(code: str, setting: str | None) -> str:
    env = {k: v for k, v in os.environ.items() if k != "CALOTYPE_ALLOCATOR" and not k.startswith("MALLOC_")}
    if setting is not None:
        env["CALOTYPE_ALLOCATOR"] = setting
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
FAULTS = """
import ctypes, resource
import calotype
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@GLIBC
def test_the_allocator_is_tuned_unless_told_otherwise() -> None:
    code = "from calotype.runtime import tune_allocator; print(tune_allocator())"
    assert in_a_new_process(code, None) == "True"
    assert in_a_new_process(code, "default") == "False"


@GLIBC
def test_a_large_block_is_paged_in_once() -> None:
    """Eight times the same 64 MiB: tuned, its pages are new the first time only."""
    tuned, default = (int(in_a_new_process(FAULTS, setting)) for setting in (None, "default"))
    assert tuned < default / 4


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda *_: ("", ""))
    assert runtime.tune_allocator() is False


def test_importing_it_loads_no_torch() -> None:
    assert in_a_new_process("import sys, calotype.runtime; print('torch' in sys.modules)", None) == "False"

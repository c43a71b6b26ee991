"""The global generators of Python, NumPy and PyTorch, as JSON values.

Calotype draws by position (`calotype.rng`) and does not use them, but a network with dropout or a data source of the
user's may; a resumed run must find them as they were.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotype.rng import fold


def seed_all(seed: int) -> None:
    """Seed every global generator from one number."""
    random.seed(fold(seed, "python"))
    np.random.seed(fold(seed, "numpy") & 0xFFFFFFFF)
    torch.manual_seed(fold(seed, "torch"))


def random_state() -> dict[str, Any]:
    """The state of every global generator."""
    version, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": [version, list(words), gauss],
        "numpy": numpy | {"state": {k: _plain(v) for k, v in numpy["state"].items()}},
        "torch": _to_hex(torch.get_rng_state()),
        "cuda": [_to_hex(s) for s in cuda],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put every global generator back; devices that are not there now are left out."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    numpy = state["numpy"]
    np.random.set_state(
        numpy | {"state": {"key": np.array(numpy["state"]["key"], np.uint32), "pos": numpy["state"]["pos"]}}
    )
    torch.set_rng_state(_from_hex(state["torch"]))
    for device in range(min(len(state["cuda"]), torch.cuda.device_count())):
        torch.cuda.set_rng_state(_from_hex(state["cuda"][device]), device)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever is drawn inside the block, the generators continue as if it had not been."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


def _plain(value: np.ndarray[Any, Any] | int) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else int(value)


def _to_hex(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_hex(text: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)

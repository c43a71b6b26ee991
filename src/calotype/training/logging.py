"""What a run writes down: metrics.jsonl, events.jsonl and, if it is installed, TensorBoard.

Between two lines the metrics stay where they are (a GPU is not asked for them); a line holds their mean over the steps
since the last line. A resumed run cuts the file back to the checkpoint's step and takes over the half-finished means,
so that no step is logged twice and the lines equal those of an uninterrupted run.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from calotype.errors import DiskFull
from calotype.files import append_line
from calotype.training.run import RunDirectory
from calotype.types import Metrics

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Means:
    """Means of scalars over the steps since the last `take`; tensors are read only there."""

    def __init__(self) -> None:
        self._values: dict[str, list[float | Tensor]] = {}

    def add(self, metrics: Metrics) -> None:
        """Take note of one step's scalars; names may come and go."""
        for name, value in metrics.items():
            self._values.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)

    def take(self) -> dict[str, float]:
        """The means by name; begins anew."""
        means = {name: math.fsum(values) / len(values) for name, values in self.state().items()}
        self._values = {}
        return means

    def state(self) -> dict[str, list[float]]:
        """The scalars so far, to be stored."""
        out = {}
        for name, values in self._values.items():
            tensors = [v for v in values if isinstance(v, Tensor)]
            read = iter(torch.stack([t.float() for t in tensors]).tolist() if tensors else ())
            out[name] = [next(read) if isinstance(v, Tensor) else float(v) for v in values]
        return out

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Continue from stored scalars."""
        self._values = {name: list(values) for name, values in state.items()}


class Log:
    """The files of a run.

    Args:
        run: where they lie.
        tensorboard: also write TensorBoard's files, if the package is installed.
    """

    def __init__(self, run: RunDirectory, tensorboard: bool) -> None:
        self._run = run
        self._tensorboard = tensorboard and importlib.util.find_spec("tensorboard") is not None
        self._writer: SummaryWriter | None = None

    def resume(self, step: int) -> None:
        """Forget every line after `step`, and a line that a killed process left unfinished."""
        file = self._run.metrics
        if file.exists():
            keep = 0
            with file.open("rb") as lines:
                for line in lines:
                    if _step_of(line) > step:
                        break
                    keep += len(line)
            os.truncate(file, keep)
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # late: imports a lot

            self.close()
            self._writer = SummaryWriter(str(self._run.tensorboard), purge_step=step + 1)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One line; a full disk loses the line, not the run."""
        line = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._append(self._run.metrics, line)
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Previews, name -> (N, 3, H, W) in [-1, 1], for TensorBoard only."""
        if self._writer is not None:
            for name, images in pictures.items():
                self._writer.add_images(name, images.float().cpu().clamp(-1, 1) / 2 + 0.5, step)

    def event(self, step: int, what: str, detail: str = "") -> None:
        """Something happened; never cut back."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._append(self._run.events, {"time": now, "step": step, "event": what, "detail": detail})

    def _append(self, file: Path, line: Mapping[str, Any]) -> None:
        size = file.stat().st_size if file.exists() else 0
        try:
            append_line(file, json.dumps(line, allow_nan=False))
        except DiskFull:
            if file.exists():
                os.truncate(file, size)

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _step_of(line: bytes) -> float:
    """The step of a line; infinity if it is unfinished or damaged."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf

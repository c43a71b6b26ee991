"""Checkpoints that survive kills, power cuts, full disks and damaged files.

    checkpoints/step-00001000/weights.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json

What is promised, and how:

* *All or nothing*: a checkpoint is written beside its place, synchronised, sealed by a manifest with the SHA-256 of
  every file, and renamed (`files.commit_directory`).
* *Verified*: `latest` checks every hash. A damaged checkpoint is renamed to `.corrupt`, loudly, and the previous one
  is used; if none is left, that is an error rather than a silent new beginning.
* *Never the last one*: older checkpoints are deleted only after a newer one is committed.
* *Finite*: a checkpoint with NaN or infinity in it is refused.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.errors import CorruptFile, UserError
from calotype.files import (
    commit_directory,
    ensure_space,
    read_json,
    read_tensors,
    sync_directory,
    verify_directory,
    write_json,
    write_tensors,
)

Files = Mapping[str, Mapping[str, Tensor]]
"""File name without ending -> tensors by name."""

SPARE = 1.2
"""Free space asked for before writing, as a multiple of the checkpoint's size."""

_NAME = re.compile(r"step-(\d{8,})")


class NotFinite(ValueError):
    """A tensor of a checkpoint holds NaN or infinity."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint in memory.

    Args:
        step: optimizer steps done.
        path: its folder.
        files: tensors by file and name, on the CPU.
        state: plain JSON values.
        versions: versions of the libraries that wrote it.
    """

    step: int
    path: Path
    files: Files
    state: dict[str, Any]
    versions: dict[str, str]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they lie; made if missing. Only one process may use it (see `run.RunDirectory`).
        keep_last: how many to keep, at least 2, so that there is always one to fall back to.
        warn: called with one sentence when a damaged checkpoint is put aside.
    """

    def __init__(self, folder: Path, keep_last: int = 2, warn: Callable[[str], None] = print) -> None:
        if keep_last < 2:
            raise ValueError(f"keep_last must be at least 2, so that a damaged checkpoint has a spare; got {keep_last}")
        self.folder, self.keep_last, self._warn = folder, keep_last, warn
        folder.mkdir(parents=True, exist_ok=True)
        # What a killed process left half-written; safe, because the run's lock is ours.
        for left in folder.glob("step-*.tmp-*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in folder.glob("step-*.old-*"):
            place = left.with_name(left.name.partition(".")[0])
            if place.exists():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.rename(place)

    def steps(self) -> list[int]:
        """The steps of all committed checkpoints, ascending; not verified."""
        found = (_NAME.fullmatch(p.name) for p in self.folder.iterdir() if p.is_dir())
        return sorted(int(m[1]) for m in found if m)

    def path(self, step: int) -> Path:
        """The folder of this step's checkpoint."""
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, files: Files, state: Mapping[str, Any]) -> Path:
        """Commit a checkpoint, then delete those that are older than the newest `keep_last`.

        Raises:
            NotFinite: a tensor holds NaN or infinity; nothing was written.
            DiskFull: nothing half-written is left, and every older checkpoint is still there.
        """
        for file, tensors in files.items():
            for name, t in tensors.items():
                if t.is_floating_point() and not bool(torch.isfinite(t).all()):
                    raise NotFinite(f"{name} in {file} of step {step} holds NaN or infinity")
        size = sum(t.numel() * t.dtype.itemsize for tensors in files.values() for t in tensors.values())
        ensure_space(self.folder, int(SPARE * size))
        path = self.path(step)
        with commit_directory(path) as fresh:
            for file, tensors in files.items():
                write_tensors(fresh / f"{file}.safetensors", tensors)
            write_json(fresh / "state.json", {"step": step, **state})
        for old in self.steps()[: -self.keep_last]:
            if old < step:
                self._delete(self.path(old))
        return path

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None for a new run.

        Damaged ones are renamed to `step-N.corrupt` and reported by `warn`.

        Raises:
            CorruptFile: there are checkpoints, but none is whole.
        """
        for step in reversed(self.steps()):
            try:
                return self._read(step)
            except (UserError, OSError, KeyError) as error:
                kept = self._quarantine(self.path(step))
                self._warn(f"checkpoint of step {step} is damaged and was put aside as {kept.name}: {error}")
        damaged = sorted(p.name for p in self.folder.glob("step-*.corrupt*"))
        if damaged:
            raise CorruptFile(
                f"none of the checkpoints in {self.folder} is whole ({len(damaged)} damaged); "
                "restore one from a copy, or delete the folder to begin again"
            )
        return None

    def _read(self, step: int) -> Checkpoint:
        path = self.path(step)
        manifest = verify_directory(path)
        files = {Path(n).stem: read_tensors(path / n) for n in manifest["files"] if n.endswith(".safetensors")}
        # Verified above, so its size (half-finished means) is no threat.
        state = read_json(path / "state.json", max_bytes=1 << 28)
        if state["step"] != step:
            raise CorruptFile(f"{path} holds step {state['step']}; was the folder renamed?")
        return Checkpoint(step, path, files, state, manifest["versions"])

    def _quarantine(self, path: Path) -> Path:
        target = path.with_name(f"{path.name}.corrupt")
        if target.exists():
            target = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
        path.rename(target)
        sync_directory(self.folder)
        return target

    def _delete(self, path: Path) -> None:
        # Renamed first: a kill in the middle of the deletion must not leave half a checkpoint under a good name.
        doomed = path.with_name(f"{path.name}.tmp-old")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

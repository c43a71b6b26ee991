"""The folder of a training run, used by one process at a time.

RUN/config.json            what was asked for; a resumed run must ask for the same
RUN/inputs.json            what else it depends on, by identity, such as the autoencoder's weights; likewise
RUN/assets.json            what its conditioners learned from the data when it began, such as a tokenizer
RUN/run.lock               held by the process that trains
RUN/metrics.jsonl          one line per logged step
RUN/events.jsonl           what happened: resumed, saved, skipped, rolled back, ...
RUN/checkpoints/           see `checkpoint`
RUN/previews/  RUN/bad-batches/  RUN/tensorboard/
RUN/model/  RUN/report.html       written when training is finished
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from calotype.errors import RunLocked, UserError
from calotype.files import read_json, write_json

CHANGEABLE = (
    "trainer.steps",
    "trainer.max_seconds",
    "trainer.log_every",
    "trainer.save_every",
    "trainer.preview_every",
    "trainer.keep_last",
    "trainer.max_bad_steps",
    "trainer.tensorboard",
    "trainer.measure",
)
"""Config keys that a resumed run may change: how long, and how often something is written."""

LONG = 200
"""Characters of an identity that is told as it is."""


class RunDirectory:
    """A run's folder, locked by this process until `close` (or the end of a `with` block, or of the process).

    The lock belongs to the operating system (`flock`), so a killed process never leaves it behind.

    Args:
        path: the folder; made if missing.
        config: plain JSON values, nested; compared with the stored one if the run exists.
        inputs: name -> identity of what the config only points to ("autoencoder" -> its hash); those that were given
            before are compared likewise.
        changeable: dotted keys that may differ from the stored config.

    Raises:
        RunLocked: another process trains here; the message names its process id.
        UserError: the run was started with another config or input; the message lists what differs.
    """

    def __init__(
        self,
        path: Path | str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
        changeable: Iterable[str] = CHANGEABLE,
    ) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] | None = _lock(self.path / "run.lock")
        try:
            self._remember("config.json", "another config", dict(config), set(changeable))
            self._remember("inputs.json", "other inputs", {k: _shown(v) for k, v in (inputs or {}).items()})
        except BaseException:
            self.close()
            raise

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint. A run that failed before its first one binds nobody: the corrected command may
        have its folder."""
        return any(self.checkpoints.glob("step-*"))

    def recall(self, assets: Mapping[str, str]) -> dict[str, str]:
        """The assets that the run began with; `assets` if it begins now."""
        file = self.path / "assets.json"
        if self.begun and file.is_file():
            return {str(k): str(v) for k, v in read_json(file).items()}
        write_json(file, dict(assets))
        return dict(assets)

    def _remember(self, name: str, others: str, asked: dict[str, Any], changeable: set[str] | None = None) -> None:
        """`changeable`: None = whatever was not asked for before."""
        file = self.path / name
        old = read_json(file) if file.exists() else {}
        if old == asked:
            return
        compared = asked if changeable is not None or not old else {k: v for k, v in asked.items() if k in old}
        changes = [c for c in differences(old, compared) if c.partition(":")[0] not in (changeable or ())]
        if changes and self.begun:
            raise UserError(
                f"{self.path} was started with {others} ({'; '.join(changes)}); "
                "use the old values to resume it, or name another run directory"
            )
        write_json(file, asked)

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The finished model's folder."""
        return self.path / "model"

    @property
    def previews(self) -> Path:
        """Pictures made while training."""
        return self.path / "previews"

    @property
    def metrics(self) -> Path:
        """One JSON line per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """One JSON line per thing that happened."""
        return self.path / "events.jsonl"

    @property
    def bad_batches(self) -> Path:
        """Batches that gave a non-finite loss or gradient."""
        return self.path / "bad-batches"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        """The page to look at afterwards."""
        return self.path / "report.html"

    def close(self) -> None:
        """Give the folder back; closing twice is harmless."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Every leaf that differs between two plain trees, as "dotted.key: was X, now Y"."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(k for k in new if k not in old)]
        return [
            line
            for key in keys
            for line in differences(
                old.get(key, "nothing"), new.get(key, "nothing"), f"{where}.{key}" if where else key
            )
        ]
    # Tuples become lists in JSON; that is no difference.
    same = list(old) == list(new) if isinstance(old, list | tuple) and isinstance(new, list | tuple) else old == new
    return [] if same else [f"{where}: was {old}, now {new}"]


def _shown(identity: str) -> str:
    """Itself, or the hash of a long one, which a sentence could not name."""
    return identity if len(identity) <= LONG else f"sha256 {hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _lock(path: Path) -> IO[str]:
    file = path.open("a+", encoding="utf-8")
    try:
        _lock_file(file)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise RunLocked(
            f"{path.parent} is in use by process {owner}; wait until it ends, or name another run directory"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


if sys.platform == "win32":
    import msvcrt

    def _lock_file(file: IO[str]) -> None:
        # Lock a byte far behind the text, because Windows also forbids reading what is locked.
        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_file(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

"""What a study is: a registered frozen dataclass whose fields are its size, and whose `run` leaves a folder to look at.

    OUT/table.md  OUT/report.html  OUT/*.png  OUT/scores.json          and the runs that it consists of
    OUT/study.json                                                     its numbers

The same command again goes on where it stopped. What was found is reported as it was found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from calotype.errors import UserError
from calotype.files import read_json, write_json
from calotype.registry import Registry, from_plain, to_plain
from calotype.training.run import differences


@runtime_checkable
class Study(Protocol):
    """An experiment; the docstring of a member says what is asked, of which paper, and what it costs."""

    def run(self, out: Path) -> Path:
        """Do it in this folder, and return the page to look at.

        Raises:
            UserError: the folder holds a study of another size, the disk is full, ...
        """
        ...


T = TypeVar("T")

studies: Registry[Study] = Registry("study", "calotype.studies")


def claim(out: Path, study: Study, free: Collection[str] = ()) -> None:
    """Write OUT/study.json; the numbers of a study that has trained there already must be the same.

    Args:
        out: the study's folder; made if missing. Its runs lie in it.
        study: what is to be done.
        free: fields that may differ, with all that they hold.

    Raises:
        UserError: the folder holds a study of another size.
    """
    file, asked = out / "study.json", to_plain(study)
    if file.exists() and any(out.glob("*/checkpoints/step-*")):
        changed = differences(read_json(file), asked)
        changes = [c for c in changed if c.partition(":")[0].partition(".")[0] not in free]
        if changes:
            raise UserError(
                f"{out} holds this study with other numbers ({'; '.join(changes)}); use the old ones to go on, or name "
                "another folder with --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_json(file, asked)


def remembered(file: Path, cls: type[T], measure: Callable[[], T]) -> T:
    """What was measured before and lies in `file`, or else what `measure` finds, which is put there.

    So a study that was stopped measures nothing twice.

    Args:
        cls: the dataclass that it is.
    """
    if file.exists():
        found: T = from_plain(read_json(file), cls)
        return found
    found = measure()
    write_json(file, to_plain(found))
    return found

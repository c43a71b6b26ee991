"""What a study is: a registered frozen dataclass whose fields are its size, and whose `run` leaves a folder to look at.

    OUT/table.md  OUT/report.html  OUT/*.png  OUT/scores.json          and the runs that it consists of

The same command again goes on where it stopped. What was found is reported as it was found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from calotype.registry import Registry


@runtime_checkable
class Study(Protocol):
    """An experiment; the docstring of a member says what is asked, of which paper, and what it costs."""

    def run(self, out: Path) -> Path:
        """Do it in this folder, and return the page to look at.

        Raises:
            UserError: the folder holds a study of another size, the disk is full, ...
        """
        ...


studies: Registry[Study] = Registry("study", "calotype.studies")

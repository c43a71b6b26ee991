"""What a study found, in rows: on the terminal, in the report, and as Markdown for a page that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calotype.console import console
from calotype.generation.images import write_bytes


@dataclass(frozen=True)
class Table:
    """Cells of text.

    Args:
        head: what the columns are.
        body: rows of as many cells. What follows " \N{PLUS-MINUS SIGN}" in a cell is left out on the terminal.
    """

    head: Sequence[str]
    body: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.body):
            raise ValueError(f"every row must have {len(self.head)} cells, got {[len(row) for row in self.body]}")

    def markdown(self) -> str:
        """A table in GitHub's dialect."""
        lines = [self.head, ["---"] * len(self.head), *self.body]
        return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)

    def save(self, path: Path) -> None:
        """Write the Markdown; the file appears whole or not at all."""
        write_bytes(path, self.markdown().encode())

    def show(self, columns: Sequence[int] | None = None) -> None:
        """Print it; columns: which of them fit on a terminal, all if None."""
        from rich.table import Table as Drawn  # late: rich takes a while to import

        columns = range(len(self.head)) if columns is None else columns
        drawn = Drawn(*(self.head[k] for k in columns), box=None, padding=(0, 2, 0, 0))
        for row in self.body:
            drawn.add_row(*(row[k].partition(" \N{PLUS-MINUS SIGN}")[0] for k in columns))
        console().print(drawn)

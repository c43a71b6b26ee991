"""What the person at the keyboard sees: one console, one way to count.

`rich` is imported when something is shown, so that `calotype --help` stays quick.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> Console:
    """The terminal."""
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress with ETA while the block runs; yields a function that advances by so many.

    A terminal gets a bar, anything else a line every ten seconds and one at the end."""
    begun = time.monotonic()
    if not console().is_terminal:
        done, told = 0, begun

        def count(n: int) -> None:
            nonlocal done, told
            done, now = done + n, time.monotonic()
            if now - told >= 10:
                left = (now - begun) * (total - done) / done
                console().print(f"{what}: {done} of {total}, {left:.0f} s left", markup=False)
                told = now

        yield count
        console().print(f"{what}: {time.monotonic() - begun:.1f} s")
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console()) as progress:
        task = progress.add_task(what, total=total)

        def advance(n: int) -> None:
            progress.advance(task, n)

        yield advance

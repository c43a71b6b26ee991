"""Names and texts as they come from disks: looked up safely, and made fit to be shown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from calotype.errors import UserError

MAX_CAPTION = 16_384
"""Bytes read of a caption file, characters kept of any caption."""


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; a name that can be none is none."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long or odd to be any, or a folder that may not be looked into
        return False


def printable(name: str) -> str:
    """A name that can be shown, whatever bytes it has on disk."""
    return name.encode(errors="replace").decode()


def tidy(caption: str) -> str:
    """A caption on one line, of bounded length, that can be shown."""
    return " ".join(printable(caption[:MAX_CAPTION]).split())


def inside(folder: Path, root: Path, name: str, where: str) -> Path:
    """The file of this name in a folder.

    Args:
        root: the folder, resolved.
        where: what names the file, for messages.

    Raises:
        UserError: it lies outside, or is not there.
    """
    path, shown = folder / name, repr(printable(name[:200]))
    try:
        within, there = path.resolve().is_relative_to(root), path.is_file()
    except (OSError, ValueError):  # too long for the file system, or with a character no name can have
        within, there = True, False
    if not within:
        raise UserError(f"{where}: {shown} lies outside the folder; give names inside it")
    if not there:
        raise UserError(f"{where}: there is no file {shown}; correct the name or remove the entry")
    return path


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Class name -> label. Numbers count as numbers, so that class "10" of 11 is label 10."""
    distinct = set(names)
    if all(name.isascii() and name.isdecimal() and len(name) < 10 for name in distinct):
        return {name: k for k, name in enumerate(sorted(distinct, key=lambda name: (int(name), name)))}
    return {name: k for k, name in enumerate(sorted(distinct))}

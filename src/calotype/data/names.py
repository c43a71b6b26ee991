"""Names and texts as they come from disks: looked up safely, and made fit to be shown."""

from __future__ import annotations

import os
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


def strange(path: Path) -> bool:
    """Whether something bears this name that is no file to be read: a folder, a device, a link in a circle."""
    return not _is_file(path) and os.path.lexists(path)


def ordinary(path: Path) -> bool:
    """Whether there is such a file; raises `UserError` if what bears its name is none."""
    if strange(path):
        raise UserError(f"{printable(str(path))} is no ordinary file; put one there, or remove it")
    return _is_file(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # see `exists`
        return False


def printable(name: str) -> str:
    """A name that can be shown, whatever bytes it has on disk."""
    return name.encode(errors="replace").decode()


def tidy(caption: str) -> str:
    """A caption on one line, of bounded length, that can be shown."""
    return " ".join(printable(caption[:MAX_CAPTION]).split())


def below(folder: Path, name: str) -> Path:
    """Where a file of this name is, seen from a folder; the absolute name of what lies in it is as good as others."""
    if not Path(name).is_absolute():
        return folder / name
    try:
        return folder / Path(name).resolve().relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # not in it, no name at all, or a link in a circle
        return Path(name)


def inside(folder: Path, root: Path, name: str, where: str) -> Path:
    """The file of this name in a folder, `folder / ...` even if the name is absolute.

    Args:
        root: the folder, resolved.
        where: what names the file, for messages.

    Raises:
        UserError: it lies outside, is not there, or is no file.
    """
    path, shown = below(folder, name), repr(printable(name[:200]))
    try:
        within = path.resolve().is_relative_to(root)
    except (OSError, ValueError, RuntimeError):  # too long, a character no name can have, or a link in a circle
        within = path.is_relative_to(folder)
    if not within:
        raise UserError(f"{where}: {shown} lies outside the folder; give names inside it")
    if strange(path):
        raise UserError(f"{where}: {shown} is no ordinary file; name one, or remove the entry")
    if not _is_file(path):
        raise UserError(f"{where}: there is no file {shown}; correct the name or remove the entry")
    return path


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Class name -> label. Numbers count as numbers, so that class "10" of 11 is label 10."""
    distinct = set(names)
    if all(name.isascii() and name.isdecimal() and len(name) < 10 for name in distinct):
        return {name: k for k, name in enumerate(sorted(distinct, key=lambda name: (int(name), name)))}
    return {name: k for k, name in enumerate(sorted(distinct))}

"""Checks of option values that Typer does not make."""

from __future__ import annotations

import math
from pathlib import Path

import typer

LOUDEST = 1000


def finite(value: float | None) -> float | None:
    """Option callback: the value, unless it is nan or inf, which Python's `float` reads without complaint."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


def loudness(value: float) -> float:
    """Option callback: a guidance scale, unless it is one that float32 cannot compute with."""
    finite(value)
    if abs(value) > LOUDEST:
        raise typer.BadParameter(f"{value} is not in the range -{LOUDEST} ... {LOUDEST}; 1 to 10 is usual")
    return value


def png(path: Path | None) -> Path | None:
    """Option callback: the path of a file that is to become a PNG, unless it is a folder or ends in something else."""
    if path is not None and path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; name a file, such as {path / 'sheet.png'}")
    if path is not None and path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path} does not end in .png, which is what will be written")
    return path

"""Checks of option values that Typer does not make."""

from __future__ import annotations

import math

import typer


def finite(value: float | None) -> float | None:
    """Option callback: the value, unless it is nan or inf, which Python's `float` reads without complaint."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value

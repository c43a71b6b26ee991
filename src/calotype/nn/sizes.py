"""Limits of what a network's config may ask for, so that a wrong or hostile file is refused before it is built."""

from __future__ import annotations

LEVELS = 8
WIDEST = 8192


def check_sizes(**limits: tuple[int | None, int]) -> None:
    """Each name comes with (what was asked for, the most that makes sense); raises `ValueError` outside 1 ... most."""
    for name, (value, most) in limits.items():
        if value is not None and not 1 <= value <= most:
            raise ValueError(f"{name} must lie in 1 ... {most}, got {value}")


def check_widths(channels: int, multipliers: tuple[int, ...]) -> None:
    """The levels of a pyramid: at most `LEVELS`, none wider than `WIDEST`; raises `ValueError`."""
    if not 1 <= len(multipliers) <= LEVELS:
        raise ValueError(f"multipliers must name 1 ... {LEVELS} levels, got {len(multipliers)}")
    check_sizes(channels=(channels, WIDEST))
    for m in multipliers:
        if m < 1 or channels * m > WIDEST:
            raise ValueError(f"channels * multiplier must lie in {channels} ... {WIDEST}, got {channels} * {m}")


PerLevel = int | tuple[int, ...]
"""One number for all levels of a pyramid, or one each, outermost first."""


def at_level(value: PerLevel, level: int) -> int:
    """What holds at a level."""
    return value[level] if isinstance(value, tuple) else value


def check_per_level(levels: int, **limits: tuple[PerLevel | None, int]) -> None:
    """`check_sizes` of every level's number; raises `ValueError` also where there are not as many as levels."""
    for name, (value, most) in limits.items():
        if isinstance(value, tuple) and len(value) != levels:
            raise ValueError(
                f"{name} has {len(value)} entries for {levels} levels; give one per level, or one number for all"
            )
        for each in value if isinstance(value, tuple) else (value,):
            check_sizes(**{name: (each, most)})

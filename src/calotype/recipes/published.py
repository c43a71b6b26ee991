"""What recipes of published trainings share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calotype.recipes import Kind, recipe
from calotype.training.trainer import TrainerConfig


def for_days(steps: int, batch_size: int, ema_decay: float) -> TrainerConfig:
    """A trainer that writes as often as suits a run of days."""
    return TrainerConfig(
        steps=steps,
        batch_size=batch_size,
        ema_decay=ema_decay,
        log_every=100,
        save_every=5000,
        preview_every=10_000,
    )


def named(name: str, kind: Kind, build: Callable[[], Any], text: str) -> None:
    """Give the config of a table's row its recipe, with `text` as the docstring."""

    def row() -> Any:
        return build()

    row.__doc__ = text
    recipe(name, kind=kind, accelerator=True)(row)

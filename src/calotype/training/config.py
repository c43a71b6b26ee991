"""How a run is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainerConfig:
    """How long to train, and how often something is written.

    Args:
        steps: optimizer steps of the whole run; decay and `Progress` refer to it.
        batch_size: images per step.
        seed: of weights, order and noise.
        precision: "fp32", "bf16" (autocast) or "auto", whichever is faster here.
        ema_decay: decay of the averaged weights.
        log_every, save_every, preview_every: steps between lines, checkpoints and pictures; 0 previews = none.
        keep_last: checkpoints to keep, at least 2.
        max_bad_steps: non-finite steps in a row before going back to a checkpoint.
        max_seconds: a brake, not a schedule: the run stops, saved, when it has taken this long, resumed parts
            included. Decay and `Progress` still refer to `steps`, because what depends on a clock cannot be repeated.
        tensorboard: write TensorBoard's files if the package is installed.
        measure: count FLOPs and measure the machine's speed, about a second per start.
    """

    steps: int = 10_000
    batch_size: int = 32
    seed: int = 0
    precision: str = "auto"
    ema_decay: float = 0.9999
    log_every: int = 50
    save_every: int = 1000
    preview_every: int = 1000
    keep_last: int = 2
    max_bad_steps: int = 5
    max_seconds: float | None = None
    tensorboard: bool = True
    measure: bool = True

    def __post_init__(self) -> None:
        limits = {"steps": 1, "batch_size": 1, "seed": 0, "log_every": 1, "save_every": 1, "preview_every": 0}
        for name, low in (limits | {"keep_last": 2, "max_bad_steps": 1}).items():
            if not low <= getattr(self, name) < 2**63:
                raise ValueError(f"{name} must be a whole number from {low}, got {getattr(self, name)}")
        if self.batch_size > 2**20:
            raise ValueError(f"batch_size must be at most {2**20:,}, got {self.batch_size:,}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be 'auto', 'fp32' or 'bf16', got {self.precision!r}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.max_seconds is not None and not 0.0 < self.max_seconds < math.inf:
            raise ValueError(f"max_seconds must be positive, got {self.max_seconds}")

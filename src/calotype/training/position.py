"""Where a run is, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Position:
    """Where a run is; stored in every checkpoint.

    Args:
        step: optimizer steps done.
        seconds: wall time until then.
        bad: non-finite steps in a row.
        skipped: non-finite steps in all.
        spikes: optimizer steps left out in all because the gradient was far too long.
        rollbacks: returns to a checkpoint in all; each draws its own noise.
        failed_at: the step of the last return, until a checkpoint beyond it is saved.
        last: the last logged metrics.
    """

    step: int = 0
    seconds: float = 0.0
    bad: int = 0
    skipped: int = 0
    spikes: int = 0
    rollbacks: int = 0
    failed_at: int | None = None
    last: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainResult:
    """What a call of `Trainer.fit` did.

    Args:
        steps: optimizer steps done in the whole run.
        finished: whether these are all; False if `max_seconds` ran out.
        resumed_from: the step at which this call began.
        seconds: wall time of the whole run.
        images_per_second: over the steps of this call, saving and previews not counted.
        flops_per_step, flops_per_second: matrix products, convolutions, attention; 0 if not measured.
        matmul_rate: FLOP/s of a large matrix product on this machine; 0 if not measured.
        share: flops_per_second / matmul_rate.
        metrics: the last logged line.
        skipped: steps without an update because something was not finite.
        spikes: optimizer steps left out because the gradient was far longer than usual.
        rollbacks: how often training went back to a checkpoint.
    """

    steps: int
    finished: bool
    resumed_from: int
    seconds: float
    images_per_second: float
    flops_per_step: float
    flops_per_second: float
    matmul_rate: float
    share: float
    metrics: Mapping[str, float]
    skipped: int
    spikes: int
    rollbacks: int

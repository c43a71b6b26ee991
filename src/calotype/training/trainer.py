"""The loop: batch -> losses -> one optimizer step per phase -> log, look, save.

Run the same command again and it goes on where it stopped, bit for bit as if it had never stopped (same machine,
versions and number of threads; otherwise up to rounding, and the log says so).

A step whose loss or gradient is not finite changes nothing: the optimizers do not step, running statistics are put
back, the batch is kept in RUN/bad-batches. After `max_bad_steps` of them in a row the trainer goes back to the last
checkpoint and draws other noise from there; if it fails again before the next checkpoint, it raises `Diverged`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.errors import DiskFull, Diverged
from calotype.files import write_tensors
from calotype.rng import Draws, fold
from calotype.runtime import autocast, best_device
from calotype.tasks.base import Progress, Task
from calotype.training.checkpoint import Checkpoint, Checkpoints, NotFinite
from calotype.training.logging import Log, Means
from calotype.training.optim import OptimizerConfig
from calotype.training.phase import Phase
from calotype.training.progress import Display, display
from calotype.training.random_state import random_state, seed_all, set_random_state, undisturbed
from calotype.training.run import RunDirectory
from calotype.training.signals import Stop, listening
from calotype.training.throughput import Meter, count_flops
from calotype.types import Batch, Metrics

MAX_BAD_BATCHES = 10
"""How many bad batches a run keeps for inspection."""


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
        limits = {"steps": 0, "batch_size": 1, "seed": 0, "log_every": 1, "save_every": 1, "preview_every": 0}
        for name, low in (limits | {"keep_last": 2, "max_bad_steps": 1}).items():
            if not low <= getattr(self, name) < 2**63:
                raise ValueError(f"{name} must be a whole number from {low}, got {getattr(self, name)}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be 'auto', 'fp32' or 'bf16', got {self.precision!r}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.max_seconds is not None and not 0.0 <= self.max_seconds < math.inf:
            raise ValueError(f"max_seconds must be >= 0, got {self.max_seconds}")


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
    rollbacks: int


@dataclass
class Position:
    """Where a run is; stored in every checkpoint.

    Args:
        step: optimizer steps done.
        seconds: wall time until then.
        bad: non-finite steps in a row.
        skipped: non-finite steps in all.
        rollbacks: returns to a checkpoint in all; each draws its own noise.
        failed_at: the step of the last return, until a checkpoint beyond it is saved.
        last: the last logged metrics.
    """

    step: int = 0
    seconds: float = 0.0
    bad: int = 0
    skipped: int = 0
    rollbacks: int = 0
    failed_at: int | None = None
    last: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Runs a task in a run directory.

    Args:
        task: what to train; moved to `device`.
        optimizers: phase -> its optimizer.
        batches: step -> iterator over the batches from that step on; has to be deterministic by step.
        run: the locked directory; checkpoints in it are resumed.
        config: how long, how often.
        save_preview: writes one preview (path, (N, 3, H, W) in [-1, 1]) as a picture; None = previews are not saved.
        preview_batch: what previews show; the run's first batch if None.
        show: how progress is shown; a bar or lines if None.
        on_step: called after every step with the number of steps done and its metrics (tensors not yet read).
        on_preview: called with the number of steps done and the pictures by name.
        device: where to compute; the best one if None.
    """

    def __init__(
        self,
        task: Task,
        optimizers: Mapping[str, OptimizerConfig],
        batches: Callable[[int], Iterator[Batch]],
        run: RunDirectory,
        config: TrainerConfig,
        *,
        save_preview: Callable[[Path, Tensor], object] | None = None,
        preview_batch: Batch | None = None,
        show: Display | None = None,
        on_step: Callable[[int, Metrics], object] | None = None,
        on_preview: Callable[[int, Mapping[str, Tensor]], object] | None = None,
        device: torch.device | None = None,
    ) -> None:
        if set(optimizers) != set(task.phases):
            raise ValueError(f"the task has the phases {task.phases}, but optimizers are for {tuple(optimizers)}")
        self.config, self.run = config, run
        self.device = best_device() if device is None else device
        self.task = task.to(self.device)
        self._phases = {
            name: Phase(name, task.trainable(name), optimizers[name], config.ema_decay if name in task.ema else None)
            for name in task.phases
        }
        self._source = batches
        self._batches: Iterator[Batch] | None = None
        self._save_preview, self._preview_batch = save_preview, preview_batch
        self._on_step, self._on_preview = on_step, on_preview
        self._show = display() if show is None else show
        self._log = Log(run, config.tensorboard)
        self._means = Means()
        self._position = Position()
        self._saved: int | None = None
        self._checkpoints = Checkpoints(run.checkpoints, config.keep_last, self._warn)
        with autocast(config.precision, self.device):
            half = torch.is_autocast_enabled(self.device.type)
        self._dtype = torch.bfloat16 if half else torch.float32

    # --- the public face ---

    def fit(self) -> TrainResult:
        """Train to the end, resuming from the newest whole checkpoint.

        Raises:
            SystemExit: after SIGTERM (code 143) or SIGINT (130); the run is saved and can be resumed.
            Diverged: non-finite again after going back to a checkpoint.
            DiskFull: there is no room for the last checkpoint. (In the middle of the run that is only a warning.)
            CorruptFile: there are checkpoints but none is whole.
        """
        begun = time.monotonic()
        with listening() as stop:
            try:
                self._begin()
                start, before = self._position.step, self._position.seconds
                meter = Meter(self.device, self._dtype, self.config.measure)
                self._show.start(start, self.config.steps)
                self._loop(stop, meter, begun - before)
                self._save(last=True)
            finally:
                self._show.stop()
                self._log.close()
                self._batches = None
            if stop.signal is not None:
                self._log.event(self._position.step, "stopped", f"signal {stop.signal}")
                raise SystemExit(128 + stop.signal)
        position = self._position
        return TrainResult(
            steps=position.step,
            finished=position.step >= self.config.steps,
            resumed_from=start,
            seconds=position.seconds,
            images_per_second=meter.images_per_second,
            flops_per_step=meter.flops / max(1, meter.steps),
            flops_per_second=meter.flops_per_second,
            matmul_rate=meter.matmul_rate,
            share=meter.share,
            metrics=dict(position.last),
            skipped=position.skipped,
            rollbacks=position.rollbacks,
        )

    @contextmanager
    def averaged(self) -> Iterator[Task]:
        """Within the block the task holds averaged weights, in evaluation mode; afterwards all is as before."""
        modules = [m for phase in self._phases.values() for m in phase.module.modules()]
        modes = [m.training for m in modules]
        with ExitStack() as stack:
            for phase in self._phases.values():
                phase.module.eval()
                if phase.ema is not None:
                    stack.enter_context(phase.ema.applied())
            try:
                yield self.task
            finally:
                for module, mode in zip(modules, modes, strict=True):
                    module.training = mode

    # --- the loop ---

    def _loop(self, stop: Stop, meter: Meter, zero: float) -> None:
        config, position = self.config, self._position
        due = False
        while position.step < config.steps and stop.signal is None:
            position.seconds = time.monotonic() - zero
            if config.max_seconds is not None and position.seconds >= config.max_seconds:
                self._say(f"stopping at step {position.step}: max_seconds = {config.max_seconds:g} is used up")
                break
            begun = time.perf_counter()
            batch = self._next_batch()
            metrics = self._advance(batch, position.step)
            spent = time.perf_counter() - begun
            position.step += 1
            self._show.update(position.step, len(batch["index"]))
            if metrics is None:
                position.bad, position.skipped = position.bad + 1, position.skipped + 1
            else:
                position.bad = 0
                self._means.add(metrics)
                meter.add(frozenset(metrics), len(batch["index"]), spent, lambda b=batch: self._flops(b))
                if self._on_step is not None:
                    self._on_step(position.step, metrics)
            if position.bad >= config.max_bad_steps:
                self._roll_back()
                position = self._position
                continue
            ends = position.step == config.steps
            if ends or position.step % config.log_every == 0:
                self._write_line(meter)
            if config.preview_every and (ends or position.step % config.preview_every == 0):
                self._preview()
            # Not amid bad steps: the checkpoint to go back to should lie before them.
            due = due or position.step % config.save_every == 0
            if due and position.bad == 0:
                position.seconds = time.monotonic() - zero
                self._save()
                position, due = self._position, False
        position.seconds = time.monotonic() - zero

    def _advance(self, batch: Batch, step: int) -> dict[str, float | Tensor] | None:
        """One step of every phase: its metrics, or None if it was skipped."""
        for phase in self._phases.values():
            phase.remember_buffers()
        metrics: dict[str, float | Tensor] = {}
        losses = self.task.losses(batch, Progress(step, self.config.steps), self._draws(batch, step))
        while True:
            with autocast(self.config.precision, self.device):
                loss = next(losses, None)
            if loss is None:
                return metrics
            phase = self._phases[loss.phase]
            norm = phase.backward(loss.value).item()
            if not math.isfinite(norm):
                self._skip(batch, step, loss.phase)
                return None
            rate = phase.config.rate(step, self.config.steps)
            phase.step(norm, rate)
            own = {"loss": loss.value.detach(), "grad_norm": norm, "lr": rate, **loss.metrics}
            metrics |= {f"{loss.phase}/{name}": value for name, value in own.items()}

    def _skip(self, batch: Batch, step: int, phase: str) -> None:
        for p in self._phases.values():
            p.restore_buffers()
        kept = self._keep_bad_batch(batch, step)
        self._log.event(step, "skipped", f"loss or gradient of {phase} is not finite{kept}")
        self._say(f"step {step}: loss or gradient of {phase} is not finite, no update{kept}")

    def _keep_bad_batch(self, batch: Batch, step: int) -> str:
        folder = self.run.bad_batches
        if folder.exists() and len(list(folder.iterdir())) >= MAX_BAD_BATCHES:
            return ""
        folder.mkdir(exist_ok=True)
        tensors = {k: v for k, v in batch.items() if isinstance(v, Tensor)}
        texts = {k: json.dumps(v, default=str) for k, v in batch.items() if not isinstance(v, Tensor)}
        file = folder / f"step-{step}.safetensors"
        try:
            write_tensors(file, tensors, texts)
        except DiskFull:
            return ""
        return f"; the batch is kept in {file}"

    def _draws(self, batch: Batch, step: int) -> Draws:
        seed, returns = self.config.seed, self._position.rollbacks
        return Draws(fold(seed, "rollback", returns) if returns else seed, step, batch["index"].tolist())

    def _next_batch(self) -> Batch:
        if self._batches is None:
            self._batches = iter(self._source(self._position.step))
        batch = next(self._batches, None)
        if batch is None:
            raise ValueError(f"the data ended at step {self._position.step} of {self.config.steps}")
        return self._moved(batch)

    def _moved(self, batch: Batch) -> Batch:
        return {k: v.to(self.device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}

    def _flops(self, batch: Batch) -> int:
        """FLOPs of one more step on this batch, which leaves no trace."""

        def work() -> None:
            step = self._position.step - 1
            losses = self.task.losses(batch, Progress(step, self.config.steps), self._draws(batch, step))
            while True:
                with autocast(self.config.precision, self.device):
                    loss = next(losses, None)
                if loss is None:
                    return
                self._phases[loss.phase].backward(loss.value)

        for phase in self._phases.values():
            phase.remember_buffers()
        with undisturbed():
            flops = count_flops(work)
        for phase in self._phases.values():
            phase.restore_buffers()
        return flops

    # --- logging and previews ---

    def _write_line(self, meter: Meter) -> None:
        values = self._means.take()
        self._position.last = {k: v for k, v in values.items() if math.isfinite(v)}
        self._show.losses(values)
        clock = {"images_per_second": meter.recent(), "seconds": self._position.seconds}
        self._log.metrics(self._position.step, values | clock)

    def _preview(self) -> None:
        if self._preview_batch is None:
            self._preview_batch = next(iter(self._source(0)))
        batch = self._moved(self._preview_batch)
        draws = Draws(fold(self.config.seed, "preview"), 0, batch["index"].tolist())
        with undisturbed(), self.averaged(), torch.no_grad(), autocast(self.config.precision, self.device):
            pictures = self.task.preview(batch, draws)
        step = self._position.step
        self._log.pictures(step, pictures)
        if self._on_preview is not None:
            self._on_preview(step, pictures)
        if self._save_preview is None:
            return
        self.run.previews.mkdir(exist_ok=True)
        for name, images in pictures.items():
            try:
                self._save_preview(self.run.previews / f"{name}-{step:08d}.png", images)
            except OSError as error:
                self._warn(f"the preview of step {step} was not saved: {error}")

    def _say(self, text: str) -> None:
        self._show.say(text)

    def _warn(self, text: str) -> None:
        self._log.event(self._position.step, "warning", text)
        self._show.say(f"warning: {text}")

    # --- checkpoints ---

    def _begin(self) -> None:
        for phase in self._phases.values():
            phase.module.train()
        checkpoint = self._checkpoints.latest()
        if checkpoint is None:
            seed_all(self.config.seed)
            self._log.resume(0)
            return
        self._restore(checkpoint)
        self._log.event(checkpoint.step, "resumed")
        self._say(f"resuming at step {checkpoint.step} of {self.config.steps}")

    def _machine(self) -> dict[str, str]:
        return {
            "torch": str(torch.__version__),
            "device": self.device.type,
            "precision": str(self._dtype),
            "threads": str(torch.get_num_threads()),
        }

    def _save(self, last: bool = False) -> None:
        """Save this step unless it is saved; a full disk is a warning unless it is the last chance."""
        position = self._position
        if self._saved == position.step:
            return
        files: dict[str, dict[str, Tensor]] = {}
        for phase in self._phases.values():
            for file, tensors in phase.files().items():
                files.setdefault(file, {}).update(tensors)
        cleared = position.failed_at is not None and position.step > position.failed_at
        state = {
            "position": asdict(position) | ({"failed_at": None} if cleared else {}),
            "phases": {name: phase.state() for name, phase in self._phases.items()},
            "means": self._means.state(),
            "random": random_state(),
            "machine": self._machine(),
        }
        try:
            self._checkpoints.save(position.step, files, state)
        except DiskFull as error:
            if last:
                raise
            self._warn(f"step {position.step} was not saved, training goes on: {error}")
        except NotFinite as error:
            self._warn(str(error))
            self._roll_back()
        else:
            self._saved = position.step
            position.failed_at = None if cleared else position.failed_at
            self._log.event(position.step, "saved")

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        for name, phase in self._phases.items():
            phase.restore(checkpoint.files, state["phases"][name], str(checkpoint.path))
        self._position = Position(**state["position"])
        self._means.restore(state["means"])
        set_random_state(state["random"])
        self._saved = checkpoint.step
        self._batches = None
        self._log.resume(checkpoint.step)
        now, then = self._machine(), state["machine"]
        if now != then:
            changed = ", ".join(f"{k} {then[k]} -> {now[k]}" for k in now if now[k] != then[k])
            self._warn(f"the machine changed ({changed}): results agree up to rounding, not bit for bit")

    def _roll_back(self) -> None:
        """Return to the newest checkpoint with other noise; `Diverged` if that was tried from there already."""
        failed, before = self._position.step, self._position
        checkpoint = None if before.failed_at is not None else self._checkpoints.latest()
        if checkpoint is None:
            why = "again" if before.failed_at is not None else "and there is no checkpoint to go back to"
            raise Diverged(
                f"losses, gradients or weights are not finite at step {failed}, {why}; "
                f"lower the learning rate, or look at {self.run.bad_batches}"
            )
        self._restore(checkpoint)
        self._position.rollbacks = before.rollbacks + 1
        self._position.failed_at = failed
        self._position.bad = 0
        self._saved = None
        self._log.event(checkpoint.step, "rolled back", f"from step {failed}")
        self._warn(f"going back from step {failed} to the checkpoint of step {checkpoint.step}")

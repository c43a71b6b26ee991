"""The loop: batch -> losses -> one optimizer step per phase -> log, look, save.

Run the same command again and it goes on where it stopped, bit for bit as if it had never stopped (same machine,
versions and number of threads; otherwise up to rounding, and the log says so).

A step whose gradient is far longer than usual is left out by the optimizer that it belongs to (see `spikes`). One whose
loss or gradient is not finite ends there: its optimizer and those of later phases do not step, their running statistics
are put back, the batch is kept in RUN/bad-batches. After `max_bad_steps` of them in a row the trainer goes back to the
last checkpoint and draws other noise from there; if it fails again before the next checkpoint, it raises `Diverged`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from calotype.errors import DiskFull, Diverged
from calotype.rng import Draws, fold
from calotype.runtime import autocast, best_device
from calotype.tasks.base import Loss, Progress, Task
from calotype.training.bad_batches import keep_bad_batch
from calotype.training.checkpoint import Checkpoint, Checkpoints, NotFinite
from calotype.training.config import TrainerConfig
from calotype.training.logging import Log, Means
from calotype.training.optim import OptimizerConfig
from calotype.training.phase import Phase, Phases
from calotype.training.position import Position, TrainResult
from calotype.training.progress import Display, display
from calotype.training.random_state import random_state, seed_all, set_random_state, undisturbed
from calotype.training.run import RunDirectory
from calotype.training.signals import Stop, listening
from calotype.training.throughput import Meter, count_flops
from calotype.types import Batch, Metrics


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
        self._phases = Phases(
            Phase(name, task.trainable(name), optimizers[name], config.ema_decay if name in task.ema else None)
            for name in task.phases
        )
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
            spikes=position.spikes,
            rollbacks=position.rollbacks,
        )

    @contextmanager
    def averaged(self) -> Iterator[Task]:
        """Within the block the task holds averaged weights, in evaluation mode; afterwards all is as before."""
        with self._phases.averaged():
            yield self.task

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
                meter.add(frozenset(metrics), len(batch["index"]), spent, partial(self._flops, batch))
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
            due = due or ends or position.step % config.save_every == 0
            if due and position.bad == 0:
                position.seconds = time.monotonic() - zero
                self._save()
                position, due = self._position, False
        position.seconds = time.monotonic() - zero

    def _advance(self, batch: Batch, step: int) -> dict[str, float | Tensor] | None:
        """One step of every phase: its metrics, or None if it was skipped."""
        self._phases.remember_buffers()
        metrics: dict[str, float | Tensor] = {}
        stepped: set[str] = set()
        for loss in self._losses(batch, step):
            phase = self._phases[loss.phase]
            norm = phase.backward(loss.value).item()
            if not math.isfinite(norm):
                self._skip(batch, step, loss.phase, stepped)
                return None
            rate = phase.config.rate(step, self.config.steps)
            if phase.spikes is not None and phase.spikes.found(norm):
                self._leave_out(phase, step, norm, phase.spikes.usual)
            else:
                phase.step(norm, rate)
                stepped.add(loss.phase)
                for text in loss.warnings:  # else what they are about is put back, and will be told again
                    self._warn(text)
            own = {"loss": loss.value.detach(), "grad_norm": norm, "lr": rate, **loss.metrics}
            metrics |= {f"{loss.phase}/{name}": value for name, value in own.items()}
        return metrics

    def _losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """The task's losses; what computes them runs in the chosen precision, what happens between them does not."""
        losses = self.task.losses(batch, Progress(step, self.config.steps), self._draws(batch, step))
        while True:
            with autocast(self.config.precision, self.device):
                loss = next(losses, None)
            if loss is None:
                return
            yield loss

    def _skip(self, batch: Batch, step: int, phase: str, stepped: Container[str]) -> None:
        """End a step that is not finite: what has stepped keeps its running statistics, all else is put back."""
        for name, each in self._phases.items():
            if name not in stepped:
                each.restore_buffers()
        kept = keep_bad_batch(self.run.bad_batches, batch, step)
        self._log.event(step, "skipped", f"loss or gradient of {phase} is not finite{kept}")
        self._say(f"step {step}: loss or gradient of {phase} is not finite, no update{kept}")

    def _leave_out(self, phase: Phase, step: int, norm: float, usual: float) -> None:
        """A spike: this phase takes no step, and forgets what the batch did to its running statistics."""
        phase.restore_buffers()
        self._position.spikes += 1
        told = f"gradient of {phase.name} is {norm:.3g} long, {usual:.3g} is usual: no update"
        self._log.event(step, "spike", told)
        self._say(f"step {step}: {told}")

    def _draws(self, batch: Batch, step: int) -> Draws:
        seed, returns = self.config.seed, self._position.rollbacks
        return Draws.of(fold(seed, "rollback", returns) if returns else seed, step, batch)

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
            for loss in self._losses(batch, self._position.step - 1):
                self._phases[loss.phase].backward(loss.value)

        self._phases.remember_buffers()
        with undisturbed():
            flops = count_flops(work)
        self._phases.restore_buffers()
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
        draws = Draws.of(fold(self.config.seed, "preview"), 0, batch)
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
            except (OSError, DiskFull) as error:
                self._warn(f"the preview of step {step} was not saved: {error}")

    def _say(self, text: str) -> None:
        self._show.say(text)

    def _warn(self, text: str) -> None:
        self._log.event(self._position.step, "warning", text)
        self._show.say(f"warning: {text}")

    # --- checkpoints ---

    def _begin(self) -> None:
        self._phases.train()
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
        cleared = position.failed_at is not None and position.step > position.failed_at
        state = {
            "position": asdict(position) | ({"failed_at": None} if cleared else {}),
            "phases": self._phases.state(),
            "means": self._means.state(),
            "random": random_state(),
            "machine": self._machine(),
        }
        try:
            self._checkpoints.save(position.step, self._phases.files(), state)
        except DiskFull as error:
            if last:
                raise
            self._warn(f"step {position.step} was not saved, training goes on: {error}")
        except NotFinite as error:
            self._warn(str(error))
            if last:
                raise Diverged(f"{error}; the newest whole checkpoint is still there") from error
            self._roll_back()
        else:
            self._saved = position.step
            position.failed_at = None if cleared else position.failed_at
            self._log.event(position.step, "saved")

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        self._phases.restore(checkpoint.files, state["phases"], str(checkpoint.path))
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


__all__ = ["TrainResult", "Trainer", "TrainerConfig"]

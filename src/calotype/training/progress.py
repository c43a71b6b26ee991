"""What a person sees while a run goes on: a bar in a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Display(Protocol):
    """Shows how far a run is."""

    def start(self, done: int, total: int) -> None:
        """Begin with `done` of `total` steps."""

    def update(self, step: int, images: int) -> None:
        """`step` steps are done, the last one with `images` images."""

    def losses(self, values: Mapping[str, float]) -> None:
        """The newest numbers."""

    def say(self, text: str) -> None:
        """One sentence for the person."""

    def stop(self) -> None:
        """Leave the terminal as it was."""


class Silent:
    """Shows nothing."""

    def start(self, done: int, total: int) -> None:
        """Nothing."""

    def update(self, step: int, images: int) -> None:
        """Nothing."""

    def losses(self, values: Mapping[str, float]) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Rate:
    """Images and steps per second over the last half minute.

    Args:
        window: seconds to look back.
    """

    def __init__(self, window: float = 30.0) -> None:
        self._window = window
        self._marks: deque[tuple[float, int, int]] = deque()
        self._images = 0

    def mark(self, now: float, step: int, images: int) -> None:
        """At time `now`, `step` steps were done, the last with `images` images."""
        self._images += images
        self._marks.append((now, step, self._images))
        while len(self._marks) > 2 and now - self._marks[0][0] > self._window:
            self._marks.popleft()

    def read(self) -> tuple[float, float]:
        """(steps per second, images per second); zeros before two marks."""
        if len(self._marks) < 2:
            return 0.0, 0.0
        (t_0, s_0, n_0), (t_1, s_1, n_1) = self._marks[0], self._marks[-1]
        seconds = max(1e-9, t_1 - t_0)
        return (s_1 - s_0) / seconds, (n_1 - n_0) / seconds


def clock(seconds: float) -> str:
    """Seconds as "1:02:03" or "2:03"."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def brief(values: Mapping[str, float]) -> str:
    """The losses among the metrics, in a few words."""
    losses = [f"{name.removesuffix('/loss')} {v:.4g}" for name, v in values.items() if name.endswith("/loss")]
    return f"loss: {', '.join(losses)}" if losses else ""


class Lines:
    """Plain text, for logs and pipes.

    Args:
        every: seconds between lines.
    """

    def __init__(self, every: float = 10.0) -> None:
        self._every = every
        self._rate = Rate()
        self._next = 0.0
        self._total = 0
        self._losses = ""

    def start(self, done: int, total: int) -> None:
        """Note where it begins; the first line comes with the first update."""
        self._total = total
        self._next = time.monotonic()

    def update(self, step: int, images: int) -> None:
        """Print a line if it is time."""
        now = time.monotonic()
        self._rate.mark(now, step, images)
        if now < self._next and step < self._total:
            return
        self._next = now + self._every
        steps, per_second = self._rate.read()
        left = f"  {clock((self._total - step) / steps)} left" if steps else ""
        speed = f"  {per_second:.1f} images/s" if steps else ""
        self.say(f"step {step}/{self._total}{speed}{left}  {self._losses}".rstrip())

    def losses(self, values: Mapping[str, float]) -> None:
        """Kept for the next line."""
        self._losses = brief(values)

    def say(self, text: str) -> None:
        """Print to standard error."""
        print(text, file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Nothing to undo."""


class Bar:
    """A progress bar, for terminals."""

    def __init__(self) -> None:
        self._rate = Rate()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._next = 0.0

    def start(self, done: int, total: int) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[speed]}"),
            TextColumn("[cyan]{task.fields[losses]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("train", total=total, completed=done, speed="", losses="")
        self._progress.start()

    def update(self, step: int, images: int) -> None:
        """Move the bar, a few times a second at most."""
        now = time.monotonic()
        self._rate.mark(now, step, images)
        if self._progress is None or self._task is None:
            return
        total = self._progress.tasks[0].total or 0
        if now < self._next and step < total:
            return
        self._next = now + 0.2
        steps, per_second = self._rate.read()
        speed = f"{per_second:.1f} images/s, {clock((total - step) / steps)} left" if steps else ""
        self._progress.update(self._task, completed=step, speed=speed)

    def losses(self, values: Mapping[str, float]) -> None:
        """Show them behind the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, losses=brief(values))

    def say(self, text: str) -> None:
        """Print above the bar."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """Leave the last state of the bar on the screen."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def display() -> Display:
    """A bar if standard error is a terminal, else lines."""
    return Bar() if sys.stderr.isatty() else Lines()

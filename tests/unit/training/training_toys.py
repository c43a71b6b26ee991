"""Small tasks with everything that a checkpoint must carry, and a supervisor that kills them.

Run as a script: `training_toys.py kills RUN N SEED` trains in RUN, kills the trainee N times with SIGKILL and prints
what it saw as JSON; `training_toys.py signals RUN STEPS SEED` stops it politely until it has finished. The script
imports PyTorch once and forks the trainees, so that a trial costs little more than its training.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from calotype.errors import CorruptFile
from calotype.files import verify_directory
from calotype.rng import Draws, generator
from calotype.tasks.base import Loss, Progress, Task
from calotype.training.optim import Cosine, OptimizerConfig
from calotype.training.progress import Silent
from calotype.training.run import RunDirectory
from calotype.training.spikes import SpikeGuard
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.types import Batch


class Regress(Task):
    """y = W x by a network with running statistics (batch norm) and global randomness (dropout)."""

    phases = ("fit",)
    ema = ("fit",)

    def __init__(self, ballast: int = 0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 2))
        self.ballast = nn.Parameter(torch.zeros(ballast or 1, 4))
        self.net.register_parameter("ballast", self.ballast)

    def trainable(self, phase: str) -> nn.Module:
        return self.net

    def losses(self, batch: Batch, progress: Progress, draws: Draws) -> Iterator[Loss]:
        x = batch["x"] + 0.1 * draws.normal("x", batch["x"])
        error = (self.net(x) - batch["y"]).square().mean() + 1e-3 * (self.ballast + x.mean()).square().mean()
        yield Loss("fit", error, {"size": x.abs().mean().detach(), "fraction": progress.fraction})

    def preview(self, batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        torch.rand(3)
        return {"dots": torch.zeros(2, 3, 4, 4)}


class Duel(Task):
    """A generator's loss that, unlike ours, leaks into the critic; and a critic that joins in the second half."""

    phases = ("maker", "critic")
    ema = ("maker",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.maker, self.critic = nn.Linear(3, 3), nn.Linear(3, 1)
        self.seen: list[tuple[list[Tensor | None], list[Tensor]]] = []

    def trainable(self, phase: str) -> nn.Module:
        return {"maker": self.maker, "critic": self.critic}[phase]

    def losses(self, batch: Batch, progress: Progress, draws: Draws) -> Iterator[Loss]:
        x = batch["x"][:, :3]
        made = self.maker(x)
        before = [p.detach().clone() for p in self.critic.parameters()]
        yield Loss("maker", (made - x).square().mean() - self.critic(made).mean())
        self.seen.append(([p.grad for p in self.critic.parameters()], before))
        if progress.fraction >= 0.5:
            yield Loss("critic", self.critic(made.detach()).mean() - self.critic(x).mean())

    def preview(self, batch: Batch, draws: Draws) -> Mapping[str, Tensor]:
        return {}


def batches(start: int) -> Iterator[Batch]:
    """Batches of eight, by step."""
    for step in range(start, 1_000_000):
        x = torch.randn(8, 4, generator=generator(5, step))
        w = torch.randn(4, 2, generator=generator(6))
        yield {"index": torch.arange(step * 8, step * 8 + 8), "x": x, "y": x @ w, "caption": ["a"] * 8}


def trainer(
    path: Path,
    task: Task | None = None,
    source: object = batches,
    spikes: SpikeGuard | None = None,
    **config: object,
) -> Trainer:
    """A trainer with everything switched on that changes numbers, and everything off that takes time."""
    task = task or Regress()
    settings = {"steps": 20, "log_every": 3, "save_every": 5, "preview_every": 0, "measure": False}
    settings |= {"tensorboard": False, "precision": "fp32", "ema_decay": 0.9} | config
    optimizers = {
        p: OptimizerConfig(lr=1e-2, warmup_steps=5, decay=Cosine(), clip_norm=0.5, spikes=spikes) for p in task.phases
    }
    run = RunDirectory(path, {"trainer": {"steps": settings["steps"]}})
    return Trainer(task, optimizers, source, run, TrainerConfig(**settings), show=Silent(), device=torch.device("cpu"))


def fit(path: Path, **options: object) -> Trainer:
    """Train, give the folder back."""
    t = trainer(path, **options)
    try:
        t.result = t.fit()
    finally:
        t.run.close()
    return t


def trainee(path: Path, **options: object) -> int:
    """Fork a process that trains and wait until it has done its first step (or all of them). Its process id."""
    there, begun = os.pipe()
    child = os.fork()
    if child:
        os.close(begun)
        os.read(there, 1)
        os.close(there)
        return child
    code = 1
    try:
        t = trainer(path, **options)
        t._on_step = lambda step, metrics: os.write(begun, b"!")
        t.fit()
        code = 0
    except SystemExit as stop:
        code = stop.code
    finally:
        os._exit(code)


def kills(path: Path, number: int, seed: int) -> dict[str, int]:
    """Kill -9 a training process again and again; count what is found afterwards."""
    dice = random.Random(seed)
    seen = {"kills": 0, "writing": 0, "unloadable": 0, "steps": 0}
    folder = path / "checkpoints"
    for _ in range(number):
        child = trainee(path, task=Regress(500_000), steps=1_000_000, save_every=2)
        time.sleep(dice.uniform(0.0, 0.4))
        os.kill(child, signal.SIGKILL)
        seen["kills"] += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        seen["writing"] += any(folder.glob("*.tmp-*"))
        committed = [p for p in folder.iterdir() if "." not in p.name]
        for checkpoint in committed:
            try:
                verify_directory(checkpoint)
            except CorruptFile:
                seen["unloadable"] += 1
        seen["steps"] = max([int(p.name[5:]) for p in committed], default=0)
    return seen


def signals(path: Path, steps: int, seed: int) -> dict[str, object]:
    """SIGTERM or SIGINT at random moments until the run is finished; the exit codes that were seen."""
    dice, codes, late = random.Random(seed), [], 0.0
    while True:
        child = trainee(path, steps=steps, save_every=40)
        number = dice.choice([signal.SIGTERM, signal.SIGINT])
        time.sleep(dice.uniform(0.0, 0.1))
        sent = time.monotonic()
        os.kill(child, number)
        status = os.waitpid(child, 0)[1]
        late = max(late, time.monotonic() - sent)
        code = os.waitstatus_to_exitcode(status)
        finished = (path / "checkpoints" / f"step-{steps:08d}").exists()
        # A signal may come between the end of the training and that of the process.
        if code == 0 or (finished and code != 128 + number):
            return {"codes": codes, "late": late}
        codes.append(code == 128 + number)


if __name__ == "__main__":
    torch.set_num_threads(1)
    verb, run, count, dice = sys.argv[1:]
    # Whatever PyTorch imports late is imported here, before forking.
    fit(Path(run).with_name("warm"), steps=1)
    print(json.dumps({"kills": kills, "signals": signals}[verb](Path(run), int(count), int(dice))))

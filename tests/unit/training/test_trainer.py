"""What the loop promises: phases apart, bad steps without effect, full disks survived, one place per thing."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import training_toys
from torch import nn
from training_toys import Duel, Regress, batches, fit, trainer

from calotype.errors import DiskFull, Diverged
from calotype.files import read_tensors, verify_directory
from calotype.tasks.base import Loss
from calotype.training import checkpoint
from calotype.training.optim import OptimizerConfig
from calotype.training.spikes import SpikeGuard
from calotype.training.trainer import Trainer, TrainerConfig


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (path / "events.jsonl").read_text().splitlines()]


# --- phases ---


def test_phases_do_not_touch_each_other(tmp_path):
    """The maker's loss runs through the critic, and yet leaves neither gradient nor change in it."""
    task = Duel()
    first = [p.detach().clone() for p in task.critic.parameters()]
    fit(tmp_path, task=task, steps=10)
    assert len(task.seen) == 10
    for step, (grads, before) in enumerate(task.seen):
        if step <= 5:
            assert grads == [None, None]
            assert all(torch.equal(a, b) for a, b in zip(first, before, strict=True))
    # From step 5 on the critic steps; its gradients during the maker's phase are the ones its own phase left.
    assert not torch.equal(task.critic.weight, first[0])


def test_each_phase_equals_its_own_optimizer(tmp_path):
    """Against a plain loop with two AdamW, where the maker's gradients in the critic are thrown away."""
    task, twin = Duel(), Duel()
    twin.load_state_dict(task.state_dict())
    t = fit(tmp_path, task=task, steps=8)
    config = t._phases["maker"].config
    opts = {p: torch.optim.AdamW(twin.trainable(p).parameters(), lr=1, weight_decay=0) for p in twin.phases}
    for step, batch in zip(range(8), batches(0), strict=False):
        x = batch["x"][:, :3]
        made = twin.maker(x)
        values = {"maker": (made - x).square().mean() - twin.critic(made).mean()}
        for name in ("maker", "critic"):
            if name == "critic":
                if step < 4:
                    continue
                values[name] = twin.critic(made.detach()).mean() - twin.critic(x).mean()
            opts[name].zero_grad()
            values[name].backward()
            torch.nn.utils.clip_grad_norm_(twin.trainable(name).parameters(), 0.5)
            lr = config.rate(step, 8)
            with torch.no_grad():
                twin.trainable(name).weight.mul_(1 - lr * config.weight_decay)
            opts[name].param_groups[0]["lr"] = lr
            opts[name].step()
    for a, b in zip(task.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_losses_are_computed_in_the_chosen_precision_and_steps_are_not(tmp_path):
    seen = []

    class Watch(Regress):
        def losses(self, batch, progress, draws):
            seen.append(torch.is_autocast_enabled("cpu"))
            yield from super().losses(batch, progress, draws)

    fit(tmp_path, task=Watch(), steps=2, precision="bf16")
    assert seen == [True, True] and not torch.is_autocast_enabled("cpu")


def test_optimizers_must_match_the_phases(tmp_path):
    with pytest.raises(ValueError, match="phases"):
        Trainer(Duel(), {"maker": OptimizerConfig()}, batches, None, TrainerConfig())


# --- steps that are not finite ---


class Poisoned(Regress):
    """Something is not finite at the given steps, unless the noise is another one."""

    def __init__(self, where: str, steps: range, forever: bool = False) -> None:
        super().__init__()
        self.where, self.steps, self.forever, self.usual = where, steps, forever, 0

    def losses(self, batch, progress, draws):
        bad = progress.step in self.steps and (self.forever or draws.seed == self.usual)
        if bad and self.where == "input":
            batch = dict(batch, x=batch["x"] * math.nan)
        for loss in super().losses(batch, progress, draws):
            if bad and self.where == "loss":
                loss = Loss(loss.phase, loss.value * math.inf, loss.metrics)
            if bad and self.where == "gradient":
                # sqrt(0): the value is finite, its gradient is not.
                loss = Loss(loss.phase, loss.value + (self.net[0].weight * 0).sum().abs().sqrt(), loss.metrics)
            yield loss


@pytest.mark.parametrize("where", ["input", "loss", "gradient"])
@pytest.mark.parametrize("step", [0, 4, 9, 19])
def test_a_bad_step_changes_nothing(tmp_path, where, step):
    task = Poisoned(where, range(step, step + 1))
    states = []

    def remember(done, metrics):
        states.append({k: v.clone() for k, v in task.net.state_dict().items()})

    t = trainer(tmp_path, task=task)
    t._on_step = remember
    result = t.fit()
    t.run.close()
    assert (result.steps, result.skipped, result.rollbacks, len(states)) == (20, 1, 0, 19)
    assert all(bool(v.isfinite().all()) for state in states for v in state.values())
    assert events(tmp_path).count("skipped") == 1
    kept = read_tensors(tmp_path / f"bad-batches/step-{step}.safetensors")
    assert torch.equal(kept["x"], next(batches(step))["x"])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(v) for line in lines for v in line.values())


def test_a_skipped_step_equals_a_step_that_never_was(tmp_path):
    """Weights, average, moments and running statistics after a bad step are those before it, bit for bit."""
    task = Poisoned("input", range(7, 8))
    t = trainer(tmp_path, task=task, steps=8)
    kept = {}

    def remember(done, metrics):
        if done == 7:
            kept.update({(f, k): v.clone() for f, ts in t._phases.files().items() for k, v in ts.items()})

    t._on_step = remember
    t.fit()
    t.run.close()
    after = {(f, k): v for f, ts in t._phases.files().items() for k, v in ts.items()}
    assert kept.keys() == after.keys() and all(torch.equal(kept[k], after[k]) for k in kept)


def test_after_many_bad_steps_it_goes_back_and_tries_other_noise(tmp_path):
    task = Poisoned("loss", range(11, 18))
    result = fit(tmp_path, task=task, max_bad_steps=3).result
    assert (result.steps, result.rollbacks, result.skipped, result.finished) == (20, 1, 0, True)
    assert events(tmp_path) == ["saved"] * 2 + ["skipped"] * 3 + ["rolled back", "warning"] + ["saved"] * 2
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [3, 6, 9, 12, 15, 18, 20]


def test_failing_again_is_the_end(tmp_path):
    task = Poisoned("gradient", range(11, 18), forever=True)
    t = trainer(tmp_path, task=task, max_bad_steps=3)
    with pytest.raises(Diverged, match=r"at step 14, again; .*bad-batches"):
        t.fit()
    t.run.close()
    assert verify_directory(tmp_path / "checkpoints/step-00000010")
    assert len(list((tmp_path / "bad-batches").iterdir())) == 3


def test_bad_from_the_start(tmp_path):
    t = trainer(tmp_path, task=Poisoned("loss", range(100)))
    with pytest.raises(Diverged, match="no checkpoint to go back to"):
        t.fit()
    t.run.close()


def test_later_trouble_gets_its_own_second_chance(tmp_path):
    class Twice(Poisoned):
        def losses(self, batch, progress, draws):
            self.usual = 0 if progress.step < 14 else draws.seed if progress.step == 16 and self.armed else -1
            self.armed = self.armed and progress.step != 17
            yield from super().losses(batch, progress, draws)

    task = Twice("loss", range(11, 18))
    task.armed = True
    result = fit(tmp_path, task=task, max_bad_steps=2).result
    assert result.rollbacks == 1 and result.skipped == 1


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    task = Regress()
    t = trainer(tmp_path, task=task)

    def spoil(done, metrics):
        if done == 8 and not t._position.rollbacks:
            task.net[1].running_mean[0] = math.nan

    t._on_step = spoil
    result = t.fit()
    t.run.close()
    assert (result.steps, result.rollbacks) == (20, 1)
    assert "holds NaN" in (tmp_path / "events.jsonl").read_text()
    assert bool(task.net[1].running_mean.isfinite().all())


def test_only_ten_bad_batches_are_kept(tmp_path):
    fit(tmp_path, task=Poisoned("loss", range(1, 20, 1)), max_bad_steps=100)
    assert len(list((tmp_path / "bad-batches").iterdir())) == 10


# --- full disks ---


def test_training_goes_on_while_the_disk_is_full(tmp_path, monkeypatch):
    real, calls = checkpoint.write_tensors, []

    def write(path, tensors):
        calls.append(path)
        if 3 < len(calls) <= 5:
            raise DiskFull("no room left")
        real(path, tensors)

    monkeypatch.setattr(checkpoint, "write_tensors", write)
    result = fit(tmp_path).result
    assert result.finished
    assert events(tmp_path) == ["saved", "warning", "warning", "saved"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000005", "step-00000020"]


@pytest.mark.parametrize("limit", [1500, 6000, 20_000, 60_000])
def test_really_no_room(tmp_path, limit):
    """No file may grow beyond `limit` bytes: earlier checkpoints stay whole, nothing half-written is left."""
    resource = pytest.importorskip("resource")
    fit(tmp_path, task=Regress(1000), steps=5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    t = trainer(tmp_path, task=Regress(1000), steps=12)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        if limit < 40_000:
            with pytest.raises(DiskFull):
                t.fit()
        else:
            t.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        t.run.close()
    assert t._position.step == 12
    for path in (tmp_path / "checkpoints").iterdir():
        verify_directory(path)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    assert fit(tmp_path, task=Regress(1000), steps=13).result.steps == 13


# --- stopping ---


def test_max_seconds_stops_saved_and_counts_earlier_parts(tmp_path):
    result = fit(tmp_path, steps=1_000_000, max_seconds=0.3).result
    assert not result.finished and 0.3 <= result.seconds < 3.0 and result.steps > 0
    verify_directory(tmp_path / f"checkpoints/step-{result.steps:08d}")
    again = fit(tmp_path, steps=1_000_000, max_seconds=0.3).result
    # A checkpoint's clock stops before it is written, so a few milliseconds may be left.
    assert again.resumed_from == result.steps and not again.finished and again.seconds < 3.0


def test_a_second_interrupt_stops_at_once(tmp_path):
    class Slow(Regress):
        def losses(self, batch, progress, draws):
            if progress.step == 3:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                raise AssertionError
            yield from super().losses(batch, progress, draws)

    before = signal.getsignal(signal.SIGINT)
    t = trainer(tmp_path, task=Slow())
    with pytest.raises(KeyboardInterrupt):
        t.fit()
    t.run.close()
    assert signal.getsignal(signal.SIGINT) is before
    assert not list((tmp_path / "checkpoints").iterdir())


def test_data_that_end_early_are_an_error(tmp_path):
    t = trainer(tmp_path, source=lambda start: (b for b, _ in zip(batches(start), range(3), strict=False)))
    with pytest.raises(ValueError, match="data ended at step 3 of 20"):
        t.fit()
    t.run.close()


# --- what it hands out ---


def test_result_previews_and_averages(tmp_path):
    saved, shown = [], []
    task = Regress()
    t = trainer(tmp_path, task=task, preview_every=8, measure=True, tensorboard=True)
    t._save_preview = lambda path, images: saved.append((path.name, tuple(images.shape)))
    t._on_preview = lambda step, pictures: shown.append((step, list(pictures)))
    result = t.fit()
    t.run.close()
    assert saved == [(f"dots-{s:08d}.png", (2, 3, 4, 4)) for s in (8, 16, 20)]
    assert shown == [(s, ["dots"]) for s in (8, 16, 20)]
    # Forward and the gradient of weights: 2 (4 * 16 + 16 * 2) B each; gradient of inputs: the second layer only.
    # The noise and the ballast have no matrix products.
    assert result.flops_per_step == 2 * 8 * (2 * (4 * 16 + 16 * 2) + 16 * 2)
    assert result.images_per_second > 0 and result.matmul_rate > 1e8 and 0 < result.share < 1
    assert result.metrics["fit/loss"] > 0
    assert list((tmp_path / "tensorboard").iterdir())
    stored = read_tensors(tmp_path / "checkpoints/step-00000020/ema.safetensors")
    live = task.net[0].weight.clone()
    with t.averaged() as same:
        assert same is task and not task.net.training
        assert torch.equal(task.net[0].weight, stored["fit/0.weight"])
    assert torch.equal(task.net[0].weight, live) and task.net.training


def test_channels_last_moments_survive(tmp_path):
    """The fused optimizer needs moments in the layout of their weights, but files hold plain order."""

    class Conv(Regress):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1).to(memory_format=torch.channels_last))

        def losses(self, batch, progress, draws):
            x = batch["x"].view(-1, 4, 1, 1).expand(-1, 4, 5, 5).contiguous(memory_format=torch.channels_last)
            yield Loss("fit", self.net(x).square().mean())

    fit(tmp_path / "a", task=Conv(), steps=5)
    t = fit(tmp_path / "a", task=Conv(), steps=6)
    weight = t.task.net[0].weight
    assert t._phases["fit"].optimizer.state[weight]["exp_avg"].stride() == weight.stride()


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": -1},
        {"batch_size": 0},
        {"log_every": 0},
        {"save_every": 0},
        {"keep_last": 1},
        {"precision": "fp8"},
        {"ema_decay": 1.0},
        {"max_seconds": -1.0},
        {"max_bad_steps": 0},
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrainerConfig(**bad)


def test_toys_are_deterministic(tmp_path):
    a, b = fit(tmp_path / "a").task, fit(tmp_path / "b").task
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert training_toys.Regress.phases == ("fit",)


# --- spikes ---


class Spiky(Regress):
    """One step's loss is a million times what it is."""

    def __init__(self, steps: range) -> None:
        super().__init__()
        self.steps = steps

    def losses(self, batch, progress, draws):
        for loss in super().losses(batch, progress, draws):
            yield replace(loss, value=loss.value * 1e6) if progress.step in self.steps else loss


GUARD = SpikeGuard(window=10)


@pytest.mark.parametrize("spikes", [None, GUARD])
def test_a_spike_is_left_out_and_told(tmp_path, spikes):
    task = Spiky(range(15, 16))
    t = trainer(tmp_path, task=task, steps=16, spikes=spikes)
    kept = {}

    def remember(done, metrics):
        kept[done] = {k: v.clone() for k, v in task.net.state_dict().items()}
        kept[done] |= {f"moments/{k}": v.clone() for k, v in t._phases["fit"].files()["optimizer"].items()}

    t._on_step = remember
    result = t.fit()
    t.run.close()
    same = all(torch.equal(kept[15][k], kept[16][k]) for k in kept[15])
    assert same == (spikes is not None) and result.spikes == int(same)
    assert events(tmp_path).count("spike") == result.spikes
    assert result.skipped == 0, "a spike is finite"


@pytest.mark.parametrize("stop", [11, 15, 16])
def test_a_run_with_a_spike_resumes_bit_for_bit(tmp_path, stop):
    whole = fit(tmp_path / "whole", task=Spiky(range(15, 16)), steps=20, spikes=GUARD)
    part = trainer(tmp_path / "parts", task=Spiky(range(15, 16)), steps=20, save_every=stop, spikes=GUARD)
    part._on_step = lambda done, metrics: done == stop and signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        part.fit()
    part.run.close()
    rest = fit(tmp_path / "parts", task=Spiky(range(15, 16)), steps=20, spikes=GUARD)
    assert whole.result.spikes == rest.result.spikes == 1
    a, b = (
        read_tensors(tmp_path / run / "checkpoints/step-00000020/weights.safetensors") for run in ("whole", "parts")
    )
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_warnings_of_a_task_are_told(tmp_path):
    class Worried(Regress):
        def losses(self, batch, progress, draws):
            for loss in super().losses(batch, progress, draws):
                yield replace(loss, warnings=("the codebook collapses",)) if progress.step == 3 else loss

    fit(tmp_path, task=Worried(), steps=5)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(e["event"], e["detail"]) for e in lines if e["step"] == 3] == [("warning", "the codebook collapses")]


def test_a_warning_of_a_step_that_is_left_out_is_not_told_twice(tmp_path):
    """What the task remembers of the step is put back, so that it says the same again in the next one."""

    class Worried(Spiky):
        def __init__(self):
            super().__init__(range(15, 16))
            self.net.register_buffer("told", torch.zeros(1))

        def losses(self, batch, progress, draws):
            for loss in super().losses(batch, progress, draws):
                new = progress.step >= 15 and not self.net.told
                self.net.told += new
                yield replace(loss, warnings=("collapses",) if new else ())

    fit(tmp_path, task=Worried(), steps=18, spikes=GUARD)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(e["step"], e["event"]) for e in lines if e["event"] in ("spike", "warning")] == [
        (15, "spike"),
        (16, "warning"),
    ]


def test_a_phase_that_has_stepped_keeps_its_statistics(tmp_path):
    """The critic's loss is not finite after the maker has stepped: undoing half of the maker would leave a chimera."""

    class HalfBad(Duel):
        def __init__(self):
            super().__init__()
            for net in (self.maker, self.critic):
                net.register_buffer("steps", torch.zeros(1))

        def losses(self, batch, progress, draws):
            for net in (self.maker, self.critic):
                net.steps += 1
            for loss in super().losses(batch, progress, draws):
                yield replace(loss, value=loss.value * math.nan) if loss.phase == "critic" else loss

    task = HalfBad()
    with pytest.raises(Diverged):
        fit(tmp_path, task=task, steps=8, max_bad_steps=2, save_every=100)
    assert task.maker.steps == 6 and task.critic.steps == 4  # the critic joins at step 4, and fails twice

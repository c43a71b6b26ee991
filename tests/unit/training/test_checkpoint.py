"""Checkpoints: damage is found, falls back, and the last good one is never deleted."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from calotype.errors import CorruptFile, DiskFull
from calotype.files import verify_directory
from calotype.training import checkpoint
from calotype.training.checkpoint import Checkpoints, NotFinite


def files(step: int) -> dict[str, dict[str, torch.Tensor]]:
    values = torch.full((50,), float(step))
    return {"weights": {"a": values, "n": torch.tensor(step)}, "ema": {"a": values.clone()}, "optimizer": {}}


def test_round_trip_and_retention(tmp_path):
    c = Checkpoints(tmp_path, keep_last=2)
    assert c.latest() is None
    for step in (1, 5, 1000, 123456789):
        c.save(step, files(step), {"x": [step]})
    assert c.steps() == [1000, 123456789]
    found = c.latest()
    assert found.step == 123456789 and found.state == {"step": 123456789, "x": [123456789]}
    assert torch.equal(found.files["weights"]["a"], files(123456789)["weights"]["a"])
    assert set(found.files) == {"weights", "ema", "optimizer"} and found.versions["torch"]
    with pytest.raises(ValueError, match="at least 2"):
        Checkpoints(tmp_path, keep_last=1)


def test_non_finite_is_never_committed(tmp_path):
    c = Checkpoints(tmp_path)
    for bad in (float("nan"), float("inf"), -float("inf")):
        broken = files(1)
        broken["ema"]["a"][7] = bad
        with pytest.raises(NotFinite, match="a in ema of step 1"):
            c.save(1, broken, {})
    assert not list(tmp_path.iterdir())


def damage(folder: Path, dice: random.Random) -> str:
    kind = dice.choice(["flip", "flip", "truncate", "zero", "delete", "manifest", "swap", "stale"])
    target = dice.choice([p for p in sorted(folder.iterdir()) if p.name != "manifest.json"])
    data = bytearray(target.read_bytes())
    if kind == "flip":
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    elif kind == "truncate":
        del data[dice.randrange(len(data)) :]
    elif kind == "zero":
        data[:64] = bytes(len(data[:64]))
    if kind == "delete":
        target.unlink()
    elif kind == "manifest":
        text = (folder / "manifest.json").read_bytes()
        at = dice.randrange(len(text))
        (folder / "manifest.json").write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
    elif kind == "swap":
        shutil.copy(folder.parent / "step-00000001" / "weights.safetensors", folder / "weights.safetensors")
    elif kind == "stale":
        shutil.copy(folder.parent / "step-00000001" / "manifest.json", folder / "manifest.json")
    else:
        target.write_bytes(data)
    return kind


def test_every_damage_falls_back_loudly(tmp_path):
    dice, kinds = random.Random(2), set()
    for i in range(100):
        said: list[str] = []
        c = Checkpoints(tmp_path / str(i), warn=said.append)
        c.save(1, files(1), {})
        newest = c.save(2, files(2), {})
        kinds.add(damage(newest, dice))
        assert c.latest().step == 1
        assert len(said) == 1 and "step 2 is damaged" in said[0] and "step-00000002.corrupt" in said[0]
        assert (tmp_path / str(i) / "step-00000002.corrupt").is_dir()
        # The same step can be saved again, and damaged again.
        c.save(2, files(2), {})
        assert c.latest().step == 2
    assert len(kinds) == 7


def test_if_nothing_is_whole_it_says_so_again_and_again(tmp_path):
    c = Checkpoints(tmp_path, warn=lambda text: None)
    c.save(1, files(1), {})
    c.save(2, files(2), {})
    for step in (1, 2):
        (c.path(step) / "state.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(CorruptFile, match=r"none of the checkpoints .* is whole"):
            c.latest()


def test_a_renamed_checkpoint_is_not_believed(tmp_path):
    said: list[str] = []
    c = Checkpoints(tmp_path, warn=said.append)
    c.save(1, files(1), {})
    shutil.copytree(c.path(1), c.path(7))
    assert c.latest().step == 1 and "renamed" in said[0]


def test_leftovers_of_a_kill_are_swept(tmp_path):
    c = Checkpoints(tmp_path)
    c.save(3, files(3), {})
    (tmp_path / "step-00000004.tmp-abc").mkdir()
    (tmp_path / "step-00000002.tmp-old").mkdir()
    shutil.copytree(c.path(3), tmp_path / "step-00000003.old-abc")
    shutil.copytree(c.path(3), tmp_path / "step-00000009.old-abc")
    c = Checkpoints(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000009"]


def test_no_room_is_noticed_before_writing(tmp_path, monkeypatch):
    c = Checkpoints(tmp_path)
    c.save(1, files(1), {})
    monkeypatch.setattr(checkpoint, "SPARE", 1e15)
    with pytest.raises(DiskFull, match="are free"):
        c.save(2, files(2), {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


class Histories(RuleBasedStateMachine):
    """Saves, failed saves, damage, restarts, deletions by hand: the newest undamaged checkpoint is always found."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.step = 0
        self.good: set[int] = set()
        self.c = Checkpoints(self.folder, keep_last=2, warn=lambda text: None)

    @rule(keep=st.integers(2, 4))
    def restart(self, keep: int) -> None:
        self.c = Checkpoints(self.folder, keep_last=keep, warn=lambda text: None)

    @rule(gap=st.integers(1, 3))
    def save(self, gap: int) -> None:
        self.step += gap
        self.c.save(self.step, files(self.step), {})
        self.good = {s for s in self.good | {self.step} if s in self.c.steps()}
        assert self.step in self.good

    @rule(stage=st.sampled_from(["write_tensors", "write_json"]))
    def full(self, stage: str) -> None:
        def fail(*args: object) -> None:
            raise DiskFull("no room")

        before = self.c.steps()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, stage, fail)
            with pytest.raises(DiskFull):
                self.c.save(self.step + 1, files(self.step + 1), {})
        assert self.c.steps() == before

    @rule(dice=st.integers(0, 2**32))
    def corrupt(self, dice: int) -> None:
        steps = self.c.steps()
        if len(self.good) > 1:
            step = random.Random(dice).choice(steps)
            (self.c.path(step) / "state.json").write_bytes(b"?")
            self.good.discard(step)

    @rule()
    def resume(self) -> None:
        if self.good:
            self.step = self.c.latest().step
            assert self.step == max(self.good)

    @invariant()
    def one_is_good(self) -> None:
        for step in self.good:
            verify_directory(self.c.path(step))
        assert not self.step or self.good
        assert not list(self.folder.glob("*.tmp-*"))

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)

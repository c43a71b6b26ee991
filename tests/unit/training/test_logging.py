"""Means between lines, files cut back to a step, and a disk without room."""

from __future__ import annotations

import json
import math

import pytest
import torch

from calotype.errors import DiskFull
from calotype.training import logging
from calotype.training.logging import Log, Means
from calotype.training.run import RunDirectory


def test_means_of_floats_and_tensors_that_come_and_go():
    means = Means()
    means.add({"a": 1.0, "b": torch.tensor(2.0, requires_grad=True)})
    means.add({"a": torch.tensor(3.0), "c": 5})
    assert means.state() == {"a": [1.0, 3.0], "b": [2.0], "c": [5.0]}
    assert means.take() == {"a": 2.0, "b": 2.0, "c": 5.0}
    assert means.take() == {}


def test_means_continue_exactly():
    whole, parts = Means(), Means()
    values = [{"x": torch.tensor(v)} for v in torch.randn(7).tolist()]
    for v in values:
        whole.add(v)
    for v in values[:3]:
        parts.add(v)
    resumed = Means()
    resumed.restore(json.loads(json.dumps(parts.state())))
    for v in values[3:]:
        resumed.add(v)
    assert resumed.take() == whole.take()


@pytest.fixture
def run(tmp_path):
    with RunDirectory(tmp_path, {}) as directory:
        yield directory


def test_resume_cuts_back(run):
    log = Log(run, tensorboard=False)
    log.resume(0)
    for step in (1, 2, 3):
        log.metrics(step, {"x": step / 3})
    with run.metrics.open("a") as file:
        file.write('{"step": 4, "x"')
    log.event(3, "saved")
    log.resume(2)
    log.metrics(3, {"x": math.nan})
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert lines == [{"step": 1, "x": 1 / 3}, {"step": 2, "x": 2 / 3}, {"step": 3, "x": None}]
    assert json.loads(run.events.read_text())["event"] == "saved"
    with run.metrics.open("a") as file:
        file.write("nonsense\n[1]\n")
    log.resume(9)
    assert len(run.metrics.read_text().splitlines()) == 3


def test_a_line_without_room_is_lost_whole(run, monkeypatch):
    log = Log(run, tensorboard=False)
    log.metrics(1, {"x": 1.0})

    def torn(path, text):
        with path.open("a") as file:
            file.write(text[:5])
        raise DiskFull("no room left")

    with monkeypatch.context() as patch:
        patch.setattr(logging, "append_line", torn)
        log.metrics(2, {"x": 2.0})
    log.metrics(3, {"x": 3.0})
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [1, 3]


def test_tensorboard(run):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(run, tensorboard=True)
    log.resume(0)
    log.metrics(5, {"x": 0.25})
    log.pictures(5, {"dots": torch.zeros(2, 3, 4, 4)})
    log.close()
    log.close()
    events = EventAccumulator(str(run.tensorboard)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("x")] == [(5, 0.25)]
    assert events.Tags()["images"]

"""What a person sees."""

from __future__ import annotations

import io
import sys

import pytest

from calotype.training import progress
from calotype.training.progress import Bar, Lines, Rate, Silent, brief, clock, display


def test_rate_over_a_window():
    rate = Rate(window=10.0)
    assert rate.read() == (0.0, 0.0)
    for i in range(100):
        rate.mark(float(i), i, 8 if i < 50 else 16)
    assert rate.read() == (1.0, 16.0)


def test_clock_and_brief():
    assert [clock(s) for s in (0, 59.6, 3599, 3600, 90061)] == ["0:00", "1:00", "59:59", "1:00:00", "25:01:01"]
    assert brief({"denoise/loss": 0.123456, "denoise/lr": 1e-4}) == "loss: denoise 0.1235"
    assert brief({"a/loss": 1.0, "b/loss": 2.0}) == "loss: a 1, b 2" and brief({"a/lr": 1.0}) == ""


def test_lines_come_every_ten_seconds_and_at_the_end(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines()
    lines.start(0, 100)
    lines.losses({"a/loss": 0.5})
    for step in range(1, 101):
        now[0] += 0.5
        lines.update(step, 4)
    lines.stop()
    out = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in out] == ["1/100", "21/100", "41/100", "61/100", "81/100", "100/100"]
    assert out[1] == "step 21/100  8.0 images/s  0:40 left  loss: a 0.5"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("make", [Bar, Lines, Silent])
def test_every_display_takes_every_call(make, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = make()
    shown.stop()
    shown.start(2, 4)
    shown.losses({"a/loss": 0.25})
    for step in (3, 4):
        shown.update(step, 4)
    shown.say("[hello] world")
    shown.stop()
    shown.stop()
    text = sys.stderr.getvalue()
    if make is Bar:
        assert "4/4" in text and "a 0.25" in text
    assert ("[hello] world" in text) == (make is not Silent)


def test_a_bar_for_terminals_only(monkeypatch):
    assert isinstance(display(), Lines)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(display(), Bar)

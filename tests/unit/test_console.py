"""Counting outside a terminal: lines at a bearable rate, with the time left."""

import pytest
from rich.console import Console

from calotype import console


def test_a_line_every_ten_seconds_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console, "console", lambda: Console(force_terminal=False, width=80))
    with console.counting("measuring", 100) as advance:
        for _ in range(50):
            now[0] += 0.5
            advance(2)
    assert capsys.readouterr().out.splitlines() == [
        "measuring: 40 of 100, 15 s left",
        "measuring: 80 of 100, 5 s left",
        "measuring: 25.0 s",
    ]

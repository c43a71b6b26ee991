"""What all tests share."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")

# The same examples every time, and no deadline: a busy machine is no fault of the code.
settings.register_profile(
    "calotype", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("calotype")


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's CALOTYPE_DEBUG must not change what the tests of messages see."""
    monkeypatch.delenv("CALOTYPE_DEBUG", raising=False)

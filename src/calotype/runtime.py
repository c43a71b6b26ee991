"""The machine: allocator, device, precision. (Grown by the nn room.)"""

from __future__ import annotations


def tune_allocator() -> None:
    """Keep large blocks inside the process; see PERFORMANCE notes."""

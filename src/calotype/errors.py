"""Errors a person can mend.

Every mistake that a user can cause is a `UserError`: one sentence that says what came, what was expected and what to
do. The command line prints the sentence and exits with code 2; a library caller may catch it as a `ValueError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What came, what was expected, what to do: one sentence, shown without a traceback."""


class UnknownName(UserError):
    """A name that no registry, recipe or config knows; the message suggests the nearest ones."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known: {', '.join(known) or 'none'}."
        )
        super().__init__(f"unknown {kind} {str(name)!r}; {hint}")


class BadImage(UserError):
    """A picture that cannot be read, or is larger than the limit."""


class CorruptFile(UserError):
    """A file or folder whose content disagrees with its manifest, or that is no file of ours."""


class Unavailable(UserError):
    """Something outside of the project's files is needed and not here: a library, pretrained weights."""


class RunLocked(UserError):
    """Another process is using the run directory."""


class DiskFull(UserError):
    """There is not enough room to write; nothing half-written is left behind."""


class Diverged(UserError):
    """Training met non-finite losses again and again and cannot go on."""

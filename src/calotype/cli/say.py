"""What every verb says at its end."""

from __future__ import annotations

import shlex

import typer


def next_command(*words: object, comment: str = "") -> None:
    """Print the command that a person would want next, ready to be copied.

    Args:
        words: the words after `calotype`; placeholders in capitals stay as they are.
        comment: what it does.
    """
    typer.echo(f"\nNext{f', {comment}' if comment else ''}:\n  calotype {shlex.join(str(w) for w in words)}")

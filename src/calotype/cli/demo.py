"""calotype demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calotype.cli.checks import finite
from calotype.cli.say import next_command


def demo(
    out: Annotated[Path, typer.Option(help="Folder for models, pictures and the report.")] = Path("runs/demo"),
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, callback=finite, help="Training time in all; by default what the demo's recipes say."),
    ] = None,
) -> None:
    """Train both stages on embedded pictures, with a report.

    Needs no download and no accelerator.
    """
    from calotype.jobs.demo import demo as job

    job(out, minutes)
    next_command("sample", out, "--caption", "police officer", "-n", 4, comment="your own wish")

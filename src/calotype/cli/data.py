"""calotype data show"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calotype.cli.checks import png
from calotype.cli.say import next_command

app = typer.Typer(no_args_is_help=True, help="Look at pictures before training on them.")


@app.command()
def show(
    source: Annotated[str, typer.Argument(metavar="DIR", help="A folder of pictures, or embedded:NAME.")],
    out: Annotated[Path | None, typer.Option(callback=png, help="Also write a contact sheet to this PNG file.")] = None,
) -> None:
    """Count pictures, sizes, classes, captions, boxes and label maps, and name files that cannot be read."""
    from calotype.jobs.show import show_data

    show_data(source, out)
    next_command("train", "autoencoder", "--data", source, comment="the first stage")

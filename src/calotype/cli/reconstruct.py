"""calotype reconstruct"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calotype.cli.say import next_command


def reconstruct(
    run: Annotated[Path, typer.Argument(help="A run's folder of either stage, or the demo's.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    out: Annotated[Path | None, typer.Option(help="A folder for the results; by default RUN/reconstructed.")] = None,
) -> None:
    """Show pictures beside their reconstructions.

    What the autoencoder loses here, no sample will show.
    """
    from calotype.jobs.reconstruct import reconstruct as job

    job(run, images, out)
    next_command("train", "diffusion", "--data", "DIR", "--autoencoder", run, comment="if the pictures are good enough")

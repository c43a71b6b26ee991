"""calotype evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calotype.cli.say import next_command


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder of either stage, or the demo's.")],
    data: Annotated[str, typer.Option(metavar="DIR", help="A folder of pictures, or embedded:NAME.")],
    side: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Pixels; by default as the model was trained.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "-n", "--limit", min=2, max=10_000_000, help="Pictures, evenly spread over the data; default all."
        ),
    ] = None,
    perceptual: Annotated[str, typer.Option(help="`calotype components perceptual` lists them.")] = "lite0",
    weights: Annotated[
        Path | None,
        typer.Option(help="The weights of lpips' network; by default vgg16.safetensors in ~/.cache/calotype."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for the results; by default RUN/evaluation/NAME of the data.")
    ] = None,
) -> None:
    """Measure how well the autoencoder gives pictures back."""
    from calotype.jobs.evaluate import evaluate as job

    job(run, data, side=side, limit=limit, perceptual=perceptual, weights=weights, out=out)
    next_command("train", "diffusion", "--data", "DIR", "--autoencoder", run, comment="if the scores are good enough")

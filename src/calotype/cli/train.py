"""calotype train autoencoder, calotype train diffusion, calotype train classifier"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calotype.cli.say import next_command

if TYPE_CHECKING:
    from calotype.recipes import Kind

app = typer.Typer(no_args_is_help=True, help="Train one stage; the same command again goes on where it stopped.")

Data = Annotated[
    str | None,
    typer.Option(help="A folder of pictures, or embedded:NAME. `calotype data show` tells what would be read."),
]
Recipe = Annotated[str | None, typer.Option(help="Where to start from; `calotype recipes` lists them.")]
Config = Annotated[Path | None, typer.Option(help="A YAML file with the keys that differ from the recipe.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the complete config as YAML and stop.")]
Out = Annotated[Path | None, typer.Option(help="The run's folder; by default runs/RECIPE.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Keys that differ, such as optimizer.lr=1e-4; see --print-config."),
]


@app.command()
def autoencoder(
    overrides: Overrides = None,
    data: Data = None,
    recipe: Recipe = None,
    config: Config = None,
    out: Out = None,
    print_config: PrintConfig = False,
) -> None:
    """First stage: learn to compress pictures into latents."""
    name, run = _resolve("autoencoder", recipe, config, overrides or [])
    run = _with_inputs(run, data)
    if print_config:
        return _print(run)
    _need(run.data.source, "which pictures to train on", "--data FOLDER (or --data embedded:NAME)")
    out = out or Path("runs") / name

    from calotype.jobs.train import train_autoencoder

    train_autoencoder(run, out)
    next_command("train", "diffusion", "--data", run.data.source, "--autoencoder", out, comment="the second stage")


@app.command()
def diffusion(
    overrides: Overrides = None,
    data: Data = None,
    autoencoder: Annotated[
        str | None, typer.Option(help="A run's folder of the first stage, or `pixels` to work without compression.")
    ] = None,
    recipe: Recipe = None,
    config: Config = None,
    out: Out = None,
    print_config: PrintConfig = False,
) -> None:
    """Second stage: learn to develop latents out of noise."""
    name, run = _resolve("diffusion", recipe, config, overrides or [])
    run = _with_inputs(run, data, autoencoder)
    if print_config:
        return _print(run)
    _need(run.data.source, "which pictures to train on", "--data FOLDER (or --data embedded:NAME)")
    _need(run.autoencoder, "which autoencoder to use", "--autoencoder RUN (or --autoencoder pixels)")
    out = out or Path("runs") / name

    from calotype.jobs.asked import asking
    from calotype.jobs.train import train_diffusion

    train_diffusion(run, out)
    next_command(*asking(out, run.conditioners.values()), comment="pictures")


@app.command()
def classifier(
    overrides: Overrides = None,
    data: Data = None,
    guided: Annotated[
        Path | None,
        typer.Option("--for", help="The run that it shall guide: autoencoder, side and schedule are taken from it."),
    ] = None,
    autoencoder: Annotated[
        str | None, typer.Option(help="A run's folder, or `pixels`; where there is no run to guide yet.")
    ] = None,
    recipe: Recipe = None,
    config: Config = None,
    out: Out = None,
    print_config: PrintConfig = False,
) -> None:
    """Learn to tell the classes of noisy latents apart, to guide a second stage."""
    name, run = _resolve("classifier", recipe, config, overrides or [], guided)
    run = _with_inputs(run, data, autoencoder)
    if print_config:
        return _print(run)
    _need(run.data.source, "which pictures to train on", "--data FOLDER (or --data embedded:NAME)")
    _need(run.autoencoder, "which latents to look at", "--for RUN (or --autoencoder RUN, or --autoencoder pixels)")
    out = out or Path("runs") / name

    from calotype.jobs.train import train_classifier

    train_classifier(run, out)
    next_command(
        "sample", guided or "RUN", "--class", "NAME", "--classifier", out, comment="pictures that it takes for NAME"
    )


def _resolve(
    kind: Kind, recipe: str | None, config: Path | None, overrides: list[str], guided: Path | None = None
) -> tuple[str, Any]:
    from calotype.config import resolve
    from calotype.recipes import get

    chosen = get(recipe, kind)
    start = chosen.build()
    if guided is not None:
        from calotype.jobs.guided import like

        start = like(start, guided)
    return chosen.name, resolve(start, config, overrides)


def _with_inputs(run: Any, source: str | None, autoencoder: str | None = None) -> Any:
    """The run with what its options name, where they name something."""
    if source is not None:
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, source=source))
    return run if autoencoder is None else dataclasses.replace(run, autoencoder=autoencoder)


def _print(run: Any) -> None:
    from calotype.config import to_yaml

    typer.echo(to_yaml(run), nl=False)


def _need(value: str, what: str, option: str) -> None:
    if not value:
        from calotype.errors import UserError

        raise UserError(f"nothing says {what}; add {option}")

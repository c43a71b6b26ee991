"""calotype study"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def study(
    name: Annotated[str | None, typer.Argument(help="Which one; without a name they are listed.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Numbers that differ, such as steps=200; see --print-config."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for runs and results; by default runs/study-NAME.")] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the study's numbers as YAML and stop.")
    ] = False,
) -> None:
    """Reproduce a finding of the papers on embedded pictures.

    The same command again goes on where it stopped.
    """
    import inspect

    from calotype.config import resolve, to_yaml
    from calotype.studies.base import studies

    if name is None:
        for each in studies:
            typer.echo(f"{each:<20}{(inspect.getdoc(studies[each]) or '').partition(chr(10))[0]}")
        return
    chosen = resolve(studies.create(name), None, overrides or [])
    if print_config:
        typer.echo(f"{inspect.getdoc(chosen)}\n\n{to_yaml(chosen)}", nl=False)
        return
    page = chosen.run(out or Path("runs") / f"study-{name}")
    typer.echo(f"\nLook at:\n  {page}")

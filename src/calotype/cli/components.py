"""calotype components"""

from __future__ import annotations

import importlib
import inspect
from typing import Annotated

import typer

from calotype.cli.say import next_command


def components(
    kind: Annotated[str | None, typer.Argument(help="One kind alone, such as `sampler`.")] = None,
) -> None:
    """List what configs can name: samplers, grids, curves.

    Every name stands in a config as `type: KIND.NAME`, and in options such as --sampler by itself.
    """
    from rich.table import Table

    from calotype.console import console
    from calotype.registry import kinds, registry

    importlib.import_module("calotype.runs")  # the run configs reach every registry

    table = Table("kind", "name", "what it is", box=None, padding=(0, 2, 0, 0))
    for each in kinds() if kind is None else [kind]:
        members = registry(each)
        for name in members:
            table.add_row(each, name, (inspect.getdoc(members[name]) or "").partition("\n")[0])
    console().print(table)
    next_command("train", "diffusion", "--print-config", comment="where such names stand in a config")

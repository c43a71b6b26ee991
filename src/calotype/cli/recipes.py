"""calotype recipes"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, get_args

import typer

from calotype.cli.say import next_command
from calotype.recipes import Kind, Recipe, get
from calotype.recipes import recipes as members


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one's reasons and its complete config.")] = None,
) -> None:
    """List the recipes, or show one."""
    if name is not None:
        from calotype.config import to_yaml

        chosen = get(name)
        typer.echo(f"{chosen.text}\n\n{to_yaml(chosen.build())}", nl=False)
        next_command("train", chosen.kind, "--data", "DIR", "--recipe", name)
        return

    from rich.table import Table

    from calotype.console import console

    for title, some in sections(members()).items():
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for recipe in some:
            table.add_row(recipe.name + (" (default)" if recipe.default else ""), recipe.summary)
        console().print(title, table, "", sep="\n", markup=False)
    next_command("recipes", "NAME", comment="one recipe's numbers and reasons")


def sections(recipes: Sequence[Recipe]) -> dict[str, list[Recipe]]:
    """Title -> recipes: by what they train, those for this machine and the default one first."""
    found: dict[str, list[Recipe]] = {}
    stages = get_args(Kind)
    for recipe in sorted(recipes, key=lambda r: (r.accelerator, stages.index(r.kind), not r.default, r.name)):
        where = "as published, for accelerators" if recipe.accelerator else "on two CPU cores"
        found.setdefault(f"calotype train {recipe.kind}: {where}", []).append(recipe)
    return found

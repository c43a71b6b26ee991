"""calotype recipes"""

from __future__ import annotations

from typing import Annotated

import typer

from calotype.cli.say import next_command


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one's reasons and its complete config.")] = None,
) -> None:
    """List the recipes, or show one."""
    from calotype.recipes import get
    from calotype.recipes import recipes as members

    if name is not None:
        from calotype.config import to_yaml

        chosen = get(name)
        typer.echo(f"{chosen.text}\n\n{to_yaml(chosen.build())}", nl=False)
        next_command("train", chosen.kind, "--data", "DIR", "--recipe", name)
        return

    from rich.table import Table

    from calotype.console import console

    table = Table("recipe", "trains", "what it is", box=None, padding=(0, 2, 0, 0))
    for recipe in members():
        table.add_row(recipe.name, recipe.kind + (" (default)" if recipe.default else ""), recipe.summary)
    console().print(table)
    next_command("recipes", "NAME", comment="one recipe's numbers and reasons")

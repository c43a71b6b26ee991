"""calotype components"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import textwrap
from typing import Annotated, Any

import typer

from calotype.cli.say import next_command

_END = re.compile(r"(?<!\bal)(?<!\beq)(?<!\be\.g)\.(?=\s|$)")
"""The end of a sentence, which "et al. 2020" and "eq. (3)" are not."""


def components(
    kind: Annotated[str | None, typer.Argument(help="One kind, such as `sampler`: its members and their keys.")] = None,
) -> None:
    """List what configs can name: samplers, grids, curves.

    Every name stands in a config as `type: KIND.NAME`, and in options such as --sampler by itself.
    """
    from calotype.console import console
    from calotype.registry import kinds, registry

    importlib.import_module("calotype.runs")  # the run configs reach every registry

    width = min(120, console().width)
    for each in kinds() if kind is None else [kind]:
        members = registry(each)
        for name in members:
            typer.echo(name if kind else f"{each}.{name}")
            lines = [(4, line) for line in summary(members[name])]
            lines += [(8, line) for line in _keys(members[name]) if kind]
            for by, line in lines:
                typer.echo(_indented(line, by, width))
    if kind is None:
        next_command("components", "KIND", comment="one kind's members with their keys and defaults")
    else:
        next_command("train", "diffusion", "--print-config", comment="where such names stand in a config")


def summary(member: type[Any]) -> list[str]:
    """The first sentence of a docstring as one line; the formula that it introduces, if it does, as further lines."""
    first, *others = (inspect.getdoc(member) or "").split("\n\n")
    sentence = " ".join(first.split())
    if not sentence.endswith(".") and others and others[0].startswith(" "):
        return [sentence, *(line.strip() for line in others[0].splitlines())]
    end = _END.search(sentence)
    return [sentence if end is None else sentence[: end.end()]]


def _keys(member: type[Any]) -> list[str]:
    """ "key: default" of every field, the default as a config has it."""
    from calotype.plain_yaml import dump
    from calotype.registry import to_plain

    lines = []
    for field in dataclasses.fields(member):
        if not field.init:
            continue
        if field.default is not dataclasses.MISSING:
            default = dump(to_plain(field.default), one_line=True)
        elif field.default_factory is not dataclasses.MISSING:
            default = dump(to_plain(field.default_factory()), one_line=True)
        else:
            default = "(to be given)"
        lines.append(f"{field.name}: {default}")
    return lines


def _indented(text: str, by: int, width: int) -> str:
    """Lines of at most `width`; a word that is longer stays whole, so that it can be copied."""
    return textwrap.fill(
        text,
        width,
        initial_indent=" " * by,
        subsequent_indent=" " * (by + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )

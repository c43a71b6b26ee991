"""Recipes: named functions that return a run's config, with the reasons for its numbers.

A recipe is the documentation of a run. Its docstring says what it makes and how long that takes (first line: the
summary shown in lists), and cites where its numbers come from. `calotype recipes NAME` prints both.

    @recipe("small-autoencoder", kind="autoencoder", default=True)
    def small_autoencoder() -> AutoencoderRun:
        '''Eightfold compression of 64 x 64 pictures, three minutes on two CPU cores. ...'''

Members live in the modules of this package, which are imported when a recipe is first looked up.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from calotype.errors import UnknownName, UserError

Kind = Literal["autoencoder", "diffusion", "classifier"]
Build = TypeVar("Build", bound=Callable[[], Any])


@dataclass(frozen=True)
class Recipe:
    """A named way to make a run's config.

    Args:
        name: what the command line calls it.
        kind: what it trains.
        build: () -> the config.
        default: whether it is taken when none is named; one per kind.
        accelerator: whether it takes one; the others run in minutes on two CPU cores.
    """

    name: str
    kind: Kind
    build: Callable[[], Any]
    default: bool = False
    accelerator: bool = False

    @property
    def text(self) -> str:
        """The docstring."""
        return inspect.getdoc(self.build) or ""

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.text.partition("\n")[0]


_recipes: dict[str, Recipe] = {}


def recipe(name: str, *, kind: Kind, default: bool = False, accelerator: bool = False) -> Callable[[Build], Build]:
    """Function decorator: give a recipe its name.

    Raises:
        ValueError: the name is taken, the kind unknown, a docstring missing, or a second default of its kind.
    """

    def decorate(build: Build) -> Build:
        member = Recipe(name, kind, build, default, accelerator)
        if kind not in get_args(Kind):
            raise ValueError(f"recipe {name!r} is of unknown kind {kind!r}")
        if not member.text:
            raise ValueError(f"recipe {name!r} needs a docstring with its reasons and references")
        if name in _recipes:
            raise ValueError(f"recipe {name!r} is registered twice")
        if default and any(r.default and r.kind == kind for r in _recipes.values()):
            raise ValueError(f"recipe {name!r} would be the second default {kind} recipe")
        _recipes[name] = member
        return build

    return decorate


def recipes(kind: Kind | None = None) -> list[Recipe]:
    """All recipes, or those of one kind, by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return [_recipes[name] for name in sorted(_recipes) if kind in (None, _recipes[name].kind)]


def get(name: str | None, kind: Kind | None = None) -> Recipe:
    """The recipe called `name`, or the default one of `kind` if `name` is None.

    Raises:
        UnknownName: no such recipe; the message suggests the nearest.
        UserError: the recipe trains something else.
    """
    known = {r.name: r for r in recipes()}
    if name is None:
        found = next((r for r in known.values() if r.default and r.kind == kind), None)
        if found is None:
            raise UserError(f"there is no default {kind} recipe; name one with --recipe")
        return found
    if name not in known:
        raise UnknownName("recipe", name, [n for n, r in known.items() if kind in (None, r.kind)])
    if kind not in (None, known[name].kind):
        raise UserError(f"recipe {name!r} is for {known[name].kind}, not for {kind}; see `calotype recipes`")
    return known[name]

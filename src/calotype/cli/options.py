"""Options that verbs share, in groups: a dataclass of annotated fields is a group, a verb's parameter may be one.

    @grouped
    def upscale(run: Run, low_res: Annotated[Path, ...], wishes: Wishes = Wishes(), sampling: Sampling = Sampling(n=1)):

The command line shows the fields of all groups as options, with the defaults of the instance that is the parameter's.
A group's field that is also a parameter of the verb, here `low_res`, is left to the verb.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calotype.cli.checks import finite, loudness, png

if TYPE_CHECKING:
    from calotype.generation.generate import Plan

SEEDS = 2**63
"""How many there are, from 0."""

Run = Annotated[Path, typer.Argument(help="A run's folder of the second stage, or the demo's.")]


@dataclass(frozen=True)
class Wishes:
    """What a picture shall show, and what it is made from."""

    captions: Annotated[
        list[str] | None, typer.Option("--caption", help="What to show, in words; may be given several times.")
    ] = None
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="What to show, by class name; may be given several times.")
    ] = None
    layout: Annotated[
        Path | None,
        typer.Option(
            metavar="BOXES.json",
            help='Boxes with classes, [{"class": "heart", "box": [0.1, 0.2, 0.6, 0.7]}], or a COCO file.',
        ),
    ] = None
    label_map: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Whose values are the numbers of areas, 255 = none.")
    ] = None
    low_res: Annotated[Path | None, typer.Option(metavar="IMAGE", help="A picture to be made larger.")] = None
    noise_level: Annotated[
        float | None,
        typer.Option(
            callback=finite, help="Noise laid over --low-res, 0 ... 1: the more, the more is invented; 0 if not given."
        ),
    ] = None
    image: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="A picture to be completed where --mask is white.")
    ] = None
    mask: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="White = paint, black = keep; as large as --image.")
    ] = None
    conditioning_image: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="A drawing, depth, ...: what the picture is made from.")
    ] = None
    reference: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="A picture of the content that is wished for.")
    ] = None
    classifier: Annotated[
        Path | None,
        typer.Option(help="A run of `calotype train classifier`, which pushes towards --class; works with --scale."),
    ] = None
    classifier_scale: Annotated[
        float, typer.Option(callback=loudness, help="How hard the classifier pushes; 1 is Bayes' rule.")
    ] = 1.0


@dataclass(frozen=True)
class Size:
    """How large the picture is, where no picture says it."""

    height: Annotated[
        int | None, typer.Option(min=1, max=65_536, help="Pixels; by default as in training. With --width.")
    ] = None
    width: Annotated[int | None, typer.Option(min=1, max=65_536, help="Pixels. With --height.")] = None


@dataclass(frozen=True)
class Change:
    """How a picture is changed."""

    strength: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            callback=finite,
            help="How far to go from the picture: 0 = only through the autoencoder, 1 = anywhere.",
        ),
    ] = 0.75


@dataclass(frozen=True)
class Completion:
    """How a picture is completed."""

    renoised: Annotated[
        bool,
        typer.Option("--renoised", help="Show a model that was not trained for it what is known with fresh noise."),
    ] = False


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled."""

    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="What else shall differ: sampler.eta=1, grid.rho=5, guidance.interval=[-2,5]; see --print-config.",
        ),
    ] = None
    scale: Annotated[
        float, typer.Option(callback=loudness, help="Guidance: how loudly wishes are spoken; 1 turns it off.")
    ] = 3.0
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Network calls per picture.")] = 20
    sampler: Annotated[str, typer.Option(help="`calotype components sampler` lists them.")] = "dpmpp2m"
    grid: Annotated[
        str,
        typer.Option(
            help="Where the steps lie; `calotype components grid`. Larger pictures may want `enlarged grid.factor=2`."
        ),
    ] = "karras"
    window: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_536,
            metavar="PIXELS",
            help="Sample larger pictures in overlapping windows of this side; 0 = never. By default those of more than "
            "16 times the area of training.",
        ),
    ] = None
    n: Annotated[
        int, typer.Option("-n", min=1, max=10_000, help="Number of pictures; wishes are repeated in turn.")
    ] = 16
    seed: Annotated[int, typer.Option(min=0, max=SEEDS - 1, help="Same seed, same pictures.")] = 0
    out: Annotated[
        Path | None,
        typer.Option(callback=png, help="The sheet, a PNG file; single pictures go beside it. By default in RUN."),
    ] = None
    batch: Annotated[
        int, typer.Option(min=1, max=65_536, help="Pictures at a time: speed and memory, not content.")
    ] = 16
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print how it would be sampled as YAML and stop.")
    ] = False

    def plan(self) -> Plan:
        """What the options say, then the overrides."""
        from calotype.config import resolve
        from calotype.diffusion.grids import grids
        from calotype.diffusion.guidance import ClassifierFree
        from calotype.diffusion.samplers.base import samplers
        from calotype.generation.generate import Plan

        plan = Plan(
            samplers.create(self.sampler),
            grids.create(self.grid),
            ClassifierFree(self.scale),
            self.steps,
            self.batch,
            self.window,
        )
        return resolve(plan, None, self.overrides or [])


UNSAID = ("overrides", "n", "seed", "out", "batch", "print_config")
"""Options that are said in their own way, or not again, when a command is repeated."""


def said(group: Any, default: Any) -> Iterator[str]:
    """The words of a command line that say again what a group of options says: those that differ from the default."""
    hints = typing.get_type_hints(type(group), include_extras=True)
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if field.name in UNSAID or value == getattr(default, field.name):
            continue
        option = hints[field.name].__metadata__[0]
        name = option.default if isinstance(option.default, str) else f"--{field.name.replace('_', '-')}"
        if value is True:
            yield name
            continue
        for each in value if isinstance(value, list) else [value]:
            yield from (name, _exactly(each) if isinstance(each, float) else str(each))


def _exactly(value: float) -> str:
    """The shortest text that is read as this number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose groups of options are options of its own for Typer."""
    parameters = inspect.signature(verb, eval_str=True).parameters
    groups: dict[str, Any] = {name: p.default for name, p in parameters.items() if dataclasses.is_dataclass(p.default)}
    flat = {
        name: p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, p in parameters.items() if name not in groups
    }
    owner = {}
    for group, default in groups.items():
        for name, hint in typing.get_type_hints(type(default), include_extras=True).items():
            if name not in flat:
                owner[name] = group
                flat[name] = inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=getattr(default, name), annotation=hint
                )

    @functools.wraps(verb)
    def run(**values: Any) -> None:
        given = {k: v for k, v in values.items() if k not in owner}
        for group, default in groups.items():
            given[group] = dataclasses.replace(default, **{k: v for k, v in values.items() if owner.get(k) == group})
        verb(**given)

    run.__signature__ = inspect.Signature([*flat.values()])  # type: ignore[attr-defined]
    run.__annotations__ = {name: p.annotation for name, p in flat.items()}
    return run

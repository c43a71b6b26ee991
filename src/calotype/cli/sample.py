"""calotype sample, edit, inpaint, upscale, synthesize, layout: one job, asked for different things."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from calotype.cli.options import SEEDS, Change, Completion, Run, Sampling, Size, Wishes, grouped, said
from calotype.cli.say import next_command

MANY, FEW = Sampling(), Sampling(n=4)
ONE_AS_IT_IS, FEW_AS_THEY_ARE = Sampling(n=1, scale=1.0), Sampling(n=4, scale=1.0)
"""For models that usually have nothing to guide."""


@grouped
def sample(run: Run, wishes: Wishes = Wishes(), size: Size = Size(), sampling: Sampling = MANY) -> None:
    """Develop pictures out of noise.

    Any mix of wishes that the model takes; `edit`, `inpaint`, ... are short for some.
    """
    _develop("sample", run, {}, sampling, MANY, wishes, size)


@grouped
def edit(
    run: Run,
    start: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to begin with; any size.")],
    change: Change = Change(),
    wishes: Wishes = Wishes(),
    sampling: Sampling = FEW,
) -> None:
    """Change a picture: noise it, and develop it anew.

    Works with any model, best with the wish for something else.
    """
    _develop("edit", run, {"start": start}, sampling, FEW, change, wishes)


@grouped
def inpaint(
    run: Run,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to be completed; any size.")],
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="White = paint, black = keep; as large as IMAGE.")],
    completion: Completion = Completion(),
    wishes: Wishes = Wishes(),
    sampling: Sampling = FEW,
) -> None:
    """Paint where a mask is white; all other pixels stay as they are.

    Works with any model, best with one that was trained on holes.
    """
    _develop("inpaint", run, {"image": image, "mask": mask}, sampling, FEW, completion, wishes)


@grouped
def upscale(
    run: Run,
    low_res: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to be made larger; any size.")],
    wishes: Wishes = Wishes(),
    sampling: Sampling = ONE_AS_IT_IS,
) -> None:
    """Make a picture larger, by a model that was trained to.

    As many times as it has learned, usually four.
    """
    _develop("upscale", run, {"low_res": low_res}, sampling, ONE_AS_IT_IS, wishes)


@grouped
def synthesize(
    run: Run,
    label_map: Annotated[
        Path, typer.Argument(metavar="LABELMAP", help="A PNG whose values are the numbers of areas, 255 = none.")
    ],
    wishes: Wishes = Wishes(),
    sampling: Sampling = FEW_AS_THEY_ARE,
) -> None:
    """Make pictures out of a label map of any size, by a model that was trained to."""
    _develop("synthesize", run, {"label_map": label_map}, sampling, FEW_AS_THEY_ARE, wishes)


@grouped
def layout(
    run: Run,
    layout: Annotated[
        Path,
        typer.Argument(
            metavar="BOXES.json",
            help='Boxes with classes, [{"class": "heart", "box": [0.1, 0.2, 0.6, 0.7]}], or a COCO file.',
        ),
    ],
    wishes: Wishes = Wishes(),
    size: Size = Size(),
    sampling: Sampling = FEW,
) -> None:
    """Make pictures with things where boxes say, by a model that was trained to."""
    _develop("layout", run, {"layout": layout}, sampling, FEW, wishes, size)


def _develop(verb: str, run: Path, files: dict[str, Path], sampling: Sampling, usual: Sampling, *groups: Any) -> None:
    """What all of them do.

    Args:
        files: the verb's arguments, by what is asked with them.
        usual: its defaults for `sampling`.
        groups: its other options.
    """
    plan = sampling.plan()
    if sampling.print_config:
        from calotype.config import to_yaml

        return typer.echo(to_yaml(plan), nl=False)

    from calotype.jobs.asked import Asked
    from calotype.jobs.sample import sample as job

    given = {name: value for group in groups for name, value in vars(group).items() if value is not None}
    asked, name = Asked(**{**given, **files}), verb if files else "samples"
    made = job(run, asked, n=sampling.n, plan=plan, seed=sampling.seed, out=sampling.out, name=name)
    if not made.guided:
        if sampling.scale not in (1.0, usual.scale):
            typer.echo("  this model has no wish that guidance could strengthen; --scale has no effect")
        sampling = replace(sampling, scale=usual.scale)
    seed, comment = (sampling.seed + 1) % SEEDS, "other pictures of the same"
    if made.steps == 0:  # a seed would change nothing
        further = 0.5 if plan.steps > 1 else 1.0
        groups = tuple(replace(g, strength=further) if isinstance(g, Change) else g for g in groups)
        seed, comment = sampling.seed, "further away from the picture"
    next_command(
        verb,
        run,
        *files.values(),
        *(sampling.overrides or []),
        *(word for group in groups for word in said(group, type(group)())),
        *said(sampling, usual),
        "-n",
        sampling.n,
        "--seed",
        seed,
        comment=comment,
    )

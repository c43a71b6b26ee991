"""calotype sample"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calotype.cli.checks import loudness, png
from calotype.cli.say import next_command


def sample(
    run: Annotated[Path, typer.Argument(help="A run's folder of the second stage, or the demo's.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="What else shall differ: sampler.eta=1, grid.rho=5, guidance.interval=[-2,5]; see --print-config.",
        ),
    ] = None,
    captions: Annotated[
        list[str] | None, typer.Option("--caption", help="What to show, in words; may be given several times.")
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="What to show, by class name; may be given several times.")
    ] = None,
    n: Annotated[
        int, typer.Option("-n", min=1, max=10_000, help="Number of pictures; wishes are repeated in turn.")
    ] = 16,
    scale: Annotated[
        float, typer.Option(callback=loudness, help="Guidance: how loudly wishes are spoken; 1 turns it off.")
    ] = 3.0,
    classifier: Annotated[
        Path | None,
        typer.Option(help="A run of `calotype train classifier`, which pushes towards --class; works with --scale."),
    ] = None,
    classifier_scale: Annotated[
        float, typer.Option(callback=loudness, help="How hard the classifier pushes; 1 is Bayes' rule.")
    ] = 1.0,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Network calls per picture.")] = 20,
    sampler: Annotated[str, typer.Option(help="`calotype components sampler` lists them.")] = "dpmpp2m",
    grid: Annotated[str, typer.Option(help="Where the steps lie; `calotype components grid`.")] = "karras",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Same seed, same pictures.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(callback=png, help="The sheet, a PNG file; single pictures go beside it. By default in RUN."),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, max=65_536, help="Pictures at a time: speed and memory, not content.")
    ] = 16,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print how it would be sampled as YAML and stop.")
    ] = False,
) -> None:
    """Develop pictures out of noise."""
    from calotype.config import resolve, to_yaml
    from calotype.diffusion.grids import grids
    from calotype.diffusion.guidance import ClassifierFree
    from calotype.diffusion.samplers.base import samplers
    from calotype.generation.generate import Plan

    plan = Plan(samplers.create(sampler), grids.create(grid), ClassifierFree(scale), steps, batch)
    plan = resolve(plan, None, overrides or [])
    if print_config:
        return typer.echo(to_yaml(plan), nl=False)

    from calotype.jobs.sample import sample as job

    job(
        run,
        captions=captions or [],
        classes=classes or [],
        n=n,
        plan=plan,
        seed=seed,
        out=out,
        classifier=classifier,
        classifier_scale=classifier_scale,
    )
    wishes = [w for c in captions or [] for w in ("--caption", c)] + [w for c in classes or [] for w in ("--class", c)]
    if classifier is not None:
        wishes += ["--classifier", str(classifier), "--classifier-scale", f"{classifier_scale:g}"]
    chosen = {
        "--scale": (scale, 3.0),
        "--steps": (steps, 20),
        "--sampler": (sampler, "dpmpp2m"),
        "--grid": (grid, "karras"),
    }
    same = [str(word) for name, (value, default) in chosen.items() if value != default for word in (name, value)]
    next_command(
        "sample",
        run,
        *(overrides or []),
        *wishes,
        *same,
        "-n",
        n,
        "--seed",
        seed + 1,
        comment="other pictures of the same",
    )

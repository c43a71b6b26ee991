"""Develop pictures out of noise: RUN + wishes -> a PNG grid, and each picture on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from calotype import __version__
from calotype.console import console, counting
from calotype.diffusion.grids import grids
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.samplers.base import samplers
from calotype.generation.generate import Plan, generate
from calotype.generation.images import Parameters, save_png
from calotype.generation.images import grid as picture_grid
from calotype.jobs.guided import check_null, open_steer
from calotype.model import LatentDiffusion, model_folder
from calotype.registry import to_plain
from calotype.runtime import best_device


@dataclass(frozen=True)
class Sampled:
    """Where the pictures are: one grid, and every picture of its own."""

    grid: Path
    pictures: Sequence[Path]


def sample(
    run: Path,
    *,
    captions: Sequence[str],
    classes: Sequence[str],
    n: int,
    plan: Plan,
    seed: int,
    out: Path | None,
    classifier: Path | None = None,
    classifier_scale: float = 1.0,
) -> Sampled:
    """Write n pictures; wishes are repeated in turn until there are n.

    Args:
        classifier: the run of a classifier that pushes towards `classes`, on top of what the model makes of them.
        classifier_scale: how hard.

    Raises:
        UserError: no model there, a wish it was not trained with, an unknown class, a classifier of other latents,
            another schedule or other classes, guidance for a model that knows no null, a plan that the model's schedule
            does not allow.
    """
    folder = model_folder(run)
    model = LatentDiffusion.load(folder).to(best_device())
    wishes: dict[str, list[Any]] = {}
    if captions:
        wishes["caption"] = list(islice(cycle(captions), n))
    if classes:
        wishes["label"] = list(islice(cycle(classes), n))
    steer = None
    if classifier is not None:
        steer = open_steer(classifier, model, wishes.get("label", []), classifier_scale, best_device())
    # a model without classes may be guided towards them all the same: then the classifier alone hears of them
    heard = {k: v for k, v in wishes.items() if k != "label" or steer is None or k in model.conditioner.reads}
    model.conditioner.check(heard)
    check_null(model, plan.guidance)
    plan.times(model.denoiser.schedule, model.denoiser.variance)
    unheard = model.conditioner.unheard(heard)
    if unheard:
        console().print(
            f"  in no caption of the training set: {', '.join(unheard)}; the model can only guess what to draw",
            markup=False,
        )
    out = out or run / f"samples-seed{seed}.png"
    sampler = samplers.name_of(plan.sampler)
    record = {"model": str(folder), "seed": seed, "sampling": to_plain(plan)}
    settings = {
        "Steps": str(plan.steps),
        "Sampler": f"{sampler} {grids.name_of(plan.grid)}",
        "CFG scale": f"{plan.guidance.scale if isinstance(plan.guidance, ClassifierFree) else 1:g}",
        "Seed": str(seed),
        "Size": f"{model.side}x{model.side}",
        "Version": f"Calotype {__version__}",
    }
    if classifier is not None:
        record |= {"classifier": str(classifier), "classifier_scale": classifier_scale}
        settings |= {"Classifier scale": f"{classifier_scale:g}"}
    pictures, paths = [], []
    labels = [", ".join(str(wishes[k][i]) for k in wishes) for i in range(n)] if wishes else None
    with counting(f"sampling {n} pictures, {plan.steps} steps of {sampler}", n * plan.steps) as advance:
        for update in generate(model, heard, plan, n=n, seed=seed, steer=steer):
            advance(min(plan.batch, n - update.first))
            if update.image is None:
                continue
            for k, image in enumerate(update.image, update.first):
                path = out.with_suffix("") / f"{k:04d}.png"
                wish = labels[k] if labels else ""
                save_png(image, path, Parameters(wish, settings=settings), record | {"index": k, "wish": wish})
                pictures.append(image.cpu())
                paths.append(path)
    save_png(picture_grid(torch.stack(pictures), captions=labels), out, Parameters(settings=settings), record)
    console().print(f"{n} pictures: {out} and one by one in {out.with_suffix('')}/", markup=False)
    return Sampled(out, paths)

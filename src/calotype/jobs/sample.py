"""Develop pictures out of noise, or out of other pictures: RUN + what is asked -> a PNG sheet, and each on its own.

The verbs sample, edit, inpaint, upscale, synthesize and layout are this one job; they differ in what they ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from PIL import Image as PILImage
from torch import Tensor
from torch.nn import Module
from torch.nn import functional as F

from calotype import __version__
from calotype.conditioning.conditioner import Conditioner
from calotype.console import console, counting
from calotype.diffusion.grids import grids
from calotype.diffusion.guidance import ClassifierFree
from calotype.diffusion.samplers.base import samplers
from calotype.diffusion.start import part_of
from calotype.errors import BadImage, UserError
from calotype.generation.frame import Frame
from calotype.generation.generate import Plan
from calotype.generation.images import Parameters, grid, read_png, save_png
from calotype.generation.request import Request, fulfil
from calotype.generation.wishes import drawings, sheet, texts
from calotype.jobs.asked import Asked, check_kind, request_of, training, words_of
from calotype.jobs.guided import check_null, open_steer
from calotype.model import LatentDiffusion, model_folder
from calotype.registry import to_plain
from calotype.runtime import best_device

SHOWN = 128
"""Pictures on the sheet, at most."""

CELLS = 8
"""Of a row of the sheet, where wishes are drawn beside what became of them."""

CELL = 512
"""Pixels that larger pictures are made to fit on the sheet."""

LONGEST = 40
"""Letters of a sheet's name that tell what was asked for."""


@dataclass(frozen=True)
class Sampled:
    """What has been made.

    Args:
        grid: one sheet of all.
        pictures: every picture of its own.
        steps: that were taken; 0 where a picture only passed through the autoencoder.
        guided: whether the model has wishes that guidance strengthens.
    """

    grid: Path
    pictures: Sequence[Path]
    steps: int
    guided: bool


def sample(
    run: Path, asked: Asked, *, n: int, plan: Plan, seed: int, out: Path | None = None, name: str = "samples"
) -> Sampled:
    """Write n pictures; words and layouts are repeated in turn until there are n. Nothing is written before all of what
    is asked has been understood, nor sampled before it is known that it can be written.

    Args:
        out: the sheet; single pictures go into a folder of its name, from which those of an earlier run that had more
            are removed.
        name: what the sheet is called in the run's folder if `out` does not say it, before what is asked for.

    Raises:
        UserError: no model there, one of another kind than is asked for, files that cannot be read or do not fit, a
            caption, class or layout that it cannot take, guidance for a model that knows no null, a plan that its
            schedule or its sizes do not allow, a classifier of other latents, another schedule or other classes, a
            place that cannot be written to.
    """
    folder = model_folder(run)
    model = LatentDiffusion.load(folder).to(best_device())
    check_kind(model, asked)
    words = words_of(asked, model)
    request = request_of(asked, model, words, n, seed)
    labels, steer = texts(request.wishes, n), None
    if asked.classifier is not None:
        classes = [*request.wishes.get("label", []), *words.get("label", [])[n:]]
        steer = open_steer(asked.classifier, model, classes, asked.classifier_scale, best_device())
        if "label" not in model.conditioner.reads:  # then the classifier alone hears of them
            request = replace(request, wishes={k: v for k, v in request.wishes.items() if k != "label"})
    steps = _check(model, request, words, plan)
    out = out or run / f"{called(name, asked)}-seed{seed}.png"
    paths = [out.with_suffix("") / f"{k:04d}.png" for k in range(n)]
    _spare(asked, [out, *paths])
    sampler, guided = samplers.name_of(plan.sampler), bool(model.conditioner.guided)
    record = {"model": str(folder), "seed": seed, "sampling": to_plain(plan)} | asked.note()
    settings = {
        "Steps": str(plan.steps),
        "Sampler": f"{sampler} {grids.name_of(plan.grid)}",
        "CFG scale": f"{plan.guidance.scale if guided and isinstance(plan.guidance, ClassifierFree) else 1:g}",
        "Seed": str(seed),
        "Size": f"{request.width}x{request.height}",
        "Version": f"Calotype {__version__}",
    }
    if request.start is not None:
        settings["Denoising strength"] = f"{request.strength:g}"
    if asked.classifier is not None:
        settings["Classifier scale"] = f"{asked.classifier_scale:g}"
    shown = _Sheet(model, request, labels)
    pictures = _counted(n, "picture")
    work = f"sampling {pictures}, {_counted(n * steps, 'step')} of {sampler} in all"
    with _place(asked, out, paths):
        with counting(work, n * max(1, steps)) as advance:
            for update in fulfil(model, request, plan, seed=seed, steer=steer):
                advance(len(update.x_0))
                if update.image is None:
                    continue
                for k, image in enumerate(update.image.cpu(), update.first):
                    note = Parameters(labels[k], settings=settings)
                    save_png(image, paths[k], note, record | {"index": k, "wish": labels[k]})
                    shown.add(k, image)
        save_png(shown.drawn(), out, Parameters(settings=settings), record)
    first = f" (the first {SHOWN})" if n > SHOWN else ""
    console().print(f"{pictures}: {out}{first} and one by one in {out.with_suffix('')}/", markup=False)
    return Sampled(out, paths, steps, guided)


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _files(asked: Asked) -> list[Path]:
    return [path for path in vars(asked).values() if isinstance(path, Path)]


def called(name: str, asked: Asked) -> str:
    """A sheet's name, which tells in safe letters what was asked for, so that another wish is not written over; where
    letters do not tell it, because there are too many, others or several wishes, a hash does."""
    words = [*asked.captions, *(f"class {each}" for each in asked.classes)]
    told = "-".join([*(path.stem for path in _files(asked)), *words])
    safe = re.sub(r"[^\w-]+", "-", told, flags=re.ASCII).strip("-")
    if len(words) > 1 or len(safe) > LONGEST or safe != told.replace(" ", "-"):
        all_of_it = json.dumps([list(asked.captions), list(asked.classes), asked.note()])
        digest = sha256(all_of_it.encode()).hexdigest()[:6]
        safe = f"{safe[: LONGEST - 7].strip('-')}-{digest}".lstrip("-")
    return f"{name}-{safe}" if safe else name


def _spare(asked: Asked, written: Sequence[Path]) -> None:
    """Raise `UserError` if what is asked with would be written over."""
    given = {path.resolve(): path for path in _files(asked)}
    for path in written:
        if path.resolve() in given:
            raise UserError(f"{given[path.resolve()]} would be written over by a result; name another place with --out")


@contextmanager
def _place(asked: Asked, out: Path, paths: Sequence[Path]) -> Iterator[None]:
    """Somewhere to write: folders are made and tried before anything is sampled. They go again if nothing comes to lie
    in them; afterwards pictures go of an earlier run that had more.

    Raises:
        UserError: a place that cannot be written to.
    """
    singles = out.with_suffix("")
    made = [folder for folder in (singles, *singles.parents) if not folder.exists()]
    try:
        for path in (paths[0], out):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp-test"):
                    pass  # of a longer name than the files will have while they are written
            except OSError as error:
                raise UserError(
                    f"{path}: {error.strerror}; check the path and its permissions, or name another place with --out"
                ) from error
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()
        raise
    surplus = [*_surplus(singles, {path.resolve() for path in (*paths, *_files(asked))})]
    for path in surplus:
        path.unlink()
    if surplus:
        console().print(
            f"  {_counted(len(surplus), 'picture')} of an earlier run removed from {singles}/", markup=False
        )


def _surplus(folder: Path, kept: Collection[Path]) -> Iterator[Path]:
    """Numbered pictures that carry our note; whatever else lies there is somebody's."""
    for path in folder.glob("[0-9][0-9][0-9][0-9].png"):
        try:
            if path.resolve() not in kept and read_png(path).record:
                yield path
        except BadImage:
            continue


def _check(model: LatentDiffusion, request: Request, words: Mapping[str, Sequence[Any]], plan: Plan) -> int:
    """Understand all that is asked before anything is made of it, and say what a person should know.

    Args:
        words: which may be more than there will be pictures, and are short, but may be misunderstood one by one.

    Returns:
        The steps that will be taken.
    """
    heard = request.heard(model)
    model.conditioner.check_asked(heard)
    check_null(model, plan.guidance)
    times = plan.times(model.denoiser.schedule, model.denoiser.variance)
    if request.start is not None:
        times = part_of(times, request.strength)
    for member in model.conditioner.members.values():
        for key, values in words.items():
            if isinstance(member, Conditioner) and member.reads == (key,):
                member.check_asked({key: values})
                _try(member, key, values, plan.batch)
    frame = Frame.of(model, request.height, request.width)
    window = plan.windows(model, frame.padded_height, frame.padded_width)
    for told in _remarks(model, request, heard, words, len(times) - 1, window):
        console().print(f"  {told}", markup=False)
    return len(times) - 1


@torch.no_grad()
def _try(member: Module, key: str, values: Sequence[Any], batch: int) -> None:
    """Every different wish once; one that is not understood would else be met after the first pictures."""
    different = [*dict.fromkeys(values)]
    for first in range(0, len(different), batch):
        member({key: different[first : first + batch]})


def _remarks(
    model: LatentDiffusion,
    request: Request,
    heard: Mapping[str, Any],
    words: Mapping[str, Sequence[Any]],
    steps: int,
    window: int | None,
) -> Iterator[str]:
    wished, n = max(map(len, words.values()), default=0), request.n
    if wished > n:
        drawn = "the first is" if n == 1 else f"the first {n} are"
        yield f"{wished} wishes, but {_counted(n, 'picture')} (-n {n}): {drawn} drawn"
    unheard = model.conditioner.unheard(heard)
    if unheard:
        yield f"in no caption of the training set: {', '.join(unheard)}; the model can only guess what to draw"
    if "hole" in request.wishes and "hole" not in heard:
        yield (
            "this model was not trained to complete pictures: what is known is kept at every step, and seams may show"
            + training("hole")
        )
    if request.start is not None and steps == 0:
        alike = f", and all {n} results are alike" if n > 1 else ""
        yield (
            f"strength {request.strength:g} leaves no step to take: the picture passes through the autoencoder alone"
            + alike
        )
    if window is not None:
        yield (
            f"{request.width} x {request.height} is large: it is sampled in overlapping windows of {window} pixels"
            + (", and what is wished for is drawn in each of them" if set(words) & set(heard) else "")
        )


class _Sheet:
    """The first pictures, small, each behind drawings of what was asked for if that can be drawn."""

    def __init__(self, model: LatentDiffusion, request: Request, labels: Sequence[str]) -> None:
        self._conditioner, self._request, self._labels = model.conditioner, request, labels
        self._cells: list[Tensor] = []
        self._captions: list[str] = []
        self._drawings = 0

    def add(self, k: int, image: Tensor) -> None:
        """Sample k."""
        if k >= SHOWN:
            return
        start = {} if self._request.start is None else {"picture": self._request.start}
        wishes = {key: values[k : k + 1] for key, values in self._request.wishes.items()}
        size = (self._request.height, self._request.width)
        asked = start | {key: row[0] for key, row in drawings(wishes, self._conditioner, size).items()}
        self._drawings = len(asked)
        self._cells += (
            [*sheet({key: [cell] for key, cell in (asked | {"": image}).items()})] if asked else [_small(image)]
        )
        self._captions += [*(key.replace("_", " ") for key in asked), self._labels[k]]

    def drawn(self) -> PILImage.Image:
        """All of them."""
        each = self._drawings + 1
        columns = each * max(1, CELLS // each) if self._drawings else None
        return grid(torch.stack(self._cells), columns=columns, captions=self._captions)


def _small(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    scale = CELL / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(-1, 1)

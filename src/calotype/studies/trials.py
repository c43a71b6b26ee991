"""One trial per task: which numbers tell whether its model does what was wished for.

A trial consists of parts, each of which is measured once and remembered. LDM is Rombach et al. 2022,
https://arxiv.org/abs/2112.10752.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from calotype.diffusion.wrappers import keep_known, latent_mask, paste
from calotype.generation.images import to_uint8
from calotype.runtime import best_device
from calotype.studies.bench import Bench, compared
from calotype.studies.control import shuffled
from calotype.studies.enlargement import blind_super_resolution, super_resolution
from calotype.studies.finding import Finding, Findings, Parts, Ratio
from calotype.studies.obedience import (
    accuracy,
    agreement,
    box_overlap,
    boxes_won,
    correlation,
    drawn,
    exactness,
    held,
    largest,
    named,
    overlap,
    seen,
)
from calotype.types import Denoise, Image

MARGIN = 1
"""Positions of the latent around a hole that the training-free way does not trust: the encoder looked into the hole."""


@dataclass(frozen=True)
class Trial:
    """What is asked of a model.

    Args:
        title: of its section.
        asked: in a sentence or two.
        parts: what is measured.
    """

    title: str
    asked: str
    parts: Callable[[Bench], Parts]


# --- captions, layouts, label maps ----------------------------------------------------------------------------------


def captions(bench: Bench) -> Parts:
    """Sets of classes, at every scale of guidance."""
    return {f"scale-{scale:g}": partial(_captions, bench, scale) for scale in bench.scales}


def _captions(bench: Bench, scale: float) -> Findings:
    what, wishes = f"scale {scale:g}", bench.wishes("captions")
    images = bench.samples("captions", wishes, what, scale=scale)
    wanted = [named(caption, bench.source.objects) for caption in bench.known.wishes["caption"]]
    rows = _sets(bench, "captions", what, images, wanted)
    maps = bench.judge.maps(images)
    main = bench.obeyed(
        "captions", what, "main class", partial(largest, classes=bench.classes), maps, bench.known.wishes["label"]
    )
    return Findings((*rows, main, bench.frechet("captions", what, images)))


def _sets(bench: Bench, task: str, what: str, images: Image, wanted: list[set[int]]) -> list[Finding]:
    def f1(maps: Tensor, wished: list[set[int]]) -> Ratio:
        return agreement(seen(maps, bench.classes), wished)

    def exact(maps: Tensor, wished: list[set[int]]) -> Ratio:
        return exactness(seen(maps, bench.classes), wished)

    maps = bench.judge.maps(images)
    return [
        bench.obeyed(task, what, name, ask, maps, wanted)
        for name, ask in (("F1 of classes", f1), ("classes exactly", exact))
    ]


def layout(bench: Bench) -> Parts:
    """Objects in their boxes."""
    return {"found": partial(_layout, bench)}


def _layout(bench: Bench) -> Findings:
    images, layouts = bench.samples("layout", bench.wishes("layout")), bench.known.wishes["layout"]
    maps = bench.judge.maps(images)
    won = partial(boxes_won, classes=bench.classes)
    return Findings(
        (
            bench.obeyed("layout", "", "IoU with boxes", box_overlap, maps, layouts),
            bench.obeyed("layout", "", "boxes won by their class", won, maps, layouts),
            bench.frechet("layout", "", images),
        )
    )


def semantic(bench: Bench) -> Parts:
    """Areas where they were wished for."""
    return {"found": partial(_semantic, bench)}


def _semantic(bench: Bench) -> Findings:
    images = bench.samples("semantic", bench.wishes("semantic"))
    rows = _areas(bench, "semantic", "", bench.judge.maps(images))
    return Findings((*rows, bench.frechet("semantic", "", images)))


def _areas(bench: Bench, task: str, what: str, maps: Tensor) -> list[Finding]:
    miou = partial(overlap, areas=len(bench.source.areas))
    return [
        bench.obeyed(task, what, name, ask, maps, bench.label_maps)
        for name, ask in (("pixel accuracy", accuracy), ("mIoU", miou))
    ]


def judge(bench: Bench) -> Parts:
    """How often the judge is right about real scenes, as they are and through the first stage."""
    return {"found": partial(_judge, bench)}


def _judge(bench: Bench) -> Findings:
    wanted = [held(wish) for wish in bench.known.wishes["layout"]]
    rows: list[Finding] = []
    for what, images in (("originals", bench.images), ("through the autoencoder", bench.soft)):
        rows += _areas(bench, "judge", what, bench.judge.maps(images))
        rows += _sets(bench, "judge", what, images, wanted)
    return Findings(tuple(replace(row, real=None) for row in rows))


# --- inpainting -----------------------------------------------------------------------------------------------------


def inpainting(bench: Bench) -> Parts:
    """Holes filled by the model, and in two ways that need none trained for it."""
    fills: dict[str, Fill] = {"trained": _trained_fill, "mean-colour": lambda _, x, hole: mean_colour(x, hole)}
    if "captions" in bench.trained:
        fills["training-free"] = _training_free
    return {name: partial(_filled, bench, name.replace("-", " "), fill) for name, fill in fills.items()}


Fill = Callable[[Bench, Image, Tensor], Image]
"""Pictures (n, 3, H, W) and their holes (n, 1, H, W) -> pictures that are whole; only the holes are looked at."""


def _trained_fill(bench: Bench, x: Image, hole: Tensor) -> Image:
    return bench.samples("inpainting", {"image": [*x], "hole": [*hole]})


def mean_colour(x: Image, hole: Tensor) -> Image:
    """That of each picture's known part, everywhere."""
    known = (~hole).float()
    return ((x * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1)).expand_as(x)


def _training_free(bench: Bench, x: Image, hole: Tensor) -> Image:
    """By the captions' model, which is told nothing and has its known part put back at every step."""
    model = bench.load("captions")
    with torch.no_grad():  # of a plain colour, for the encoder must not see what is to be found
        blank = torch.where(hole, mean_colour(x, hole), x)
        z = torch.cat([model.autoencoder.encode(b.to(best_device())) for b in torch.split(blank, 64)])
    known = latent_mask(~hole, model.autoencoder.factor, MARGIN).to(z.device)

    def steer(denoise: Denoise, rows: slice) -> Denoise:
        return keep_known(denoise, z[rows], known[rows])

    return bench.samples("captions", {}, "known part kept", scale=1.0, steer=steer)


def _filled(bench: Bench, what: str, fill: Fill) -> Findings:
    wishes = bench.asked(bench.runs["inpainting"].data, ("image", "hole"))
    x, hole = torch.stack(wishes["image"]), torch.stack(wishes["hole"])
    made = fill(bench, x, hole)
    pasted, real, control = (paste(y, x, ~hole) for y in (made, bench.soft, made[bench.order]))
    of = partial(Finding.of, "inpainting", what, n=bench.n)
    distance, distance_real, distance_control = (compared(x, y)["perceptual"] for y in (pasted, real, control))
    maps = [bench.judge.maps(y) for y in (pasted, real, control)]  # it looks at whole pictures, as we do
    rights = (accuracy(m, bench.label_maps, where=hole[:, 0]) for m in maps)
    overlaps = (overlap(m, bench.label_maps, len(bench.source.areas), where=hole[:, 0]) for m in maps)
    changed = _changed(pasted, x, hole)
    return Findings(
        (
            of("known values changed", lambda rows: float(changed[rows].sum())),
            of("perceptual to original", distance, distance_real, distance_control),
            of("pixel accuracy in holes", *rights),
            of("mIoU in holes", *overlaps),
            bench.frechet_to_originals("inpainting", what, pasted, real),
        )
    )


def _changed(y: Image, x: Image, hole: Tensor) -> Tensor:
    """How many 8-bit values outside of the hole differ, per picture (n,)."""
    return ((to_uint8(y) != to_uint8(x)) & ~hole).sum((1, 2, 3))


# --- other pictures -------------------------------------------------------------------------------------------------


def image_to_image(bench: Bench) -> Parts:
    """Drawings."""
    return {"found": partial(_image_to_image, bench)}


def _image_to_image(bench: Bench) -> Findings:
    task = "image-to-image"
    images = bench.samples(task, bench.wishes(task))
    wanted = torch.stack(bench.known.wishes["conditioning_image"])[:, 0]  # grey
    sheet, real = drawn(images, bench.judge.maps(images)), drawn(bench.soft, bench.maps)
    edges = correlation(sheet, wanted), correlation(real, wanted), correlation(sheet, shuffled(wanted, bench.order))
    pairs = (images, bench.soft, images[bench.order])
    distances = (compared(bench.images, y)["perceptual"] for y in pairs)
    return Findings(
        (
            Finding.of(task, "", "correlation with the drawing", *edges, n=bench.n),
            Finding.of(task, "", "perceptual to original", *distances, n=bench.n),
            bench.frechet(task, "", images),
        )
    )


def variations(bench: Bench) -> Parts:
    """Other pictures of the same content."""
    return {"found": partial(_variations, bench)}


def _variations(bench: Bench) -> Findings:
    images = bench.samples("variations", bench.wishes("variations"))
    wanted = [held(wish) for wish in bench.known.wishes["layout"]]
    rows = _sets(bench, "variations", "", images, wanted)
    return Findings((*rows, bench.frechet("variations", "", images)))


JUDGE = Trial("The judge", "How often it is right about real scenes that it has not learned from.", judge)

TRIALS = {
    "captions": Trial(
        "Captions",
        "Words and the class of the largest object (LDM, section 4.3.1, its text-to-image model, in small): does the "
        "judge see the classes that the caption names, at least 40 of 4,096 pixels of each, and which does guidance "
        "buy at which Fréchet distance?",
        captions,
    ),
    "layout": Trial(
        "Layouts",
        "Boxes with classes (LDM, section 4.3.1, table 9): are there objects of the class in the box? Objects do not "
        "fill their boxes, so real pictures do not come to an IoU of 1.",
        layout,
    ),
    "semantic": Trial(
        "Label maps",
        "A class for every pixel (LDM, section 4.3.2): does the judge see the same map in the sample?",
        semantic,
    ),
    "inpainting": Trial(
        "Holes",
        "LDM, section 4.5, tables 6 and 7: what is put into LaMa's holes, beside the mean colour of the known part "
        "and beside a model of whole pictures that has the known part put back at every step. Real: what the first "
        "stage brings back there; control: what was made for another picture.",
        inpainting,
    ),
    "super-resolution": Trial(
        "Super-resolution",
        "LDM, section 4.4, table 5: 16 x 16 to 64 x 64, against bicubic enlargement, which is to win PSNR, as a mean "
        "of what may be does, and to lose where it is asked how pictures look. Real: the first stage's "
        "reconstructions.",
        super_resolution,
    ),
    "blind-super-resolution": Trial(
        "Blind super-resolution",
        "LDM, appendix D.6.1: a model that has learned on blurred, noisy and compressed inputs, beside one that knows "
        "bicubic shrinking alone, on inputs of both kinds and on those of the full BSR, which neither has seen.",
        blind_super_resolution,
    ),
    "image-to-image": Trial(
        "Drawings",
        "LDM, section 4.3.2, with drawings in place of label maps: is the drawing of the sample, its outlines being "
        "those that the judge sees, the one that was wished for?",
        image_to_image,
    ),
    "variations": Trial(
        "Variations",
        "Ramesh et al. 2022, https://arxiv.org/abs/2204.06125, section 3.1: does the sample show the classes of its "
        "reference, of which it knows an embedding alone?",
        variations,
    ),
}

"""What is asked of a model besides words: pictures to begin with, to complete, to enlarge, of any size.

    edit        start, strength                     from the noised picture on (SDEdit); strength 0 is the round trip
    inpaint     wishes image and hole               by a model that takes them, or by any other: see `keeping`
    upscale     wish low_resolution                 times as large
    synthesize  wish label_map                      as large as the map

A `Request` holds pictures and maps of their own size. To be sampled they are mirrored to sides that the model can take,
and what is made of them is cut back (`generation.frame`). WHERE A HOLE IS GIVEN, KNOWN PIXELS COME BACK AS THEY WERE,
to the last bit of their eight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from calotype.autoencoder.tiling import Bounded
from calotype.diffusion.wrappers import keep_known, keep_known_renoised, latent_mask, paste
from calotype.generation.frame import Frame
from calotype.generation.generate import Plan, Start, Steer, Update, generate
from calotype.layout import Layout
from calotype.model import LatentDiffusion
from calotype.rng import SampleNoise, fold
from calotype.types import Denoise, Image, Latent

Value = TypeVar("Value")

OF_PICTURE_SIZE = ("image", "hole", "label_map", "box_map", "conditioning_image")
"""Entries that are as large as the picture."""

MARGIN = 1
"""Latent positions around a hole into which an autoencoder's convolutions bring it; they are painted anew with it."""


@dataclass(frozen=True)
class Request:
    """n pictures asked of a model.

    Args:
        n: how many.
        height, width: of the pictures, in pixels; any.
        wishes: entry -> n values. Pictures and maps are (..., height, width), but for "low_resolution", (3, height /
            times, width / times), and "reference". "image" and "hole" may be given to any model.
        start: a picture (3, height, width) in [-1, 1] to begin with; None = noise.
        strength: how far from it to go, in [0, 1].
        renoised: where a hole is filled by a model that was not trained to: show it the known part with fresh noise.
    """

    n: int
    height: int
    width: int
    wishes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    start: Tensor | None = None
    strength: float = 0.75
    renoised: bool = False

    def heard(self, model: LatentDiffusion) -> dict[str, Sequence[Any]]:
        """The wishes that the model is told: all, but for a picture with a hole where it cannot read one, and with a
        layout painted where it reads that."""
        reads, told = model.conditioner.reads, dict(self.wishes)
        if "layout" in told and "box_map" in reads:
            told["box_map"] = each(self._painted, told["layout"])
        silent = {key for key in ("image", "hole") if "hole" not in reads}
        silent |= {key for key in ("layout",) if "box_map" in reads and key not in reads}
        return {key: values for key, values in told.items() if key not in silent}

    def _painted(self, layout: Layout) -> Tensor:
        return torch.from_numpy(layout.painted(self.height, self.width))


def fulfil(
    model: LatentDiffusion, request: Request, plan: Plan, *, seed: int, steer: Steer | None = None
) -> Iterator[Update]:
    """`generate` for a request: the same updates, finished pictures cut to (b, 3, height, width) and their known pixels
    put back. Previews stay latents of the enlarged size.

    Raises:
        UserError: see `generate`; pictures that are too large.
    """
    frame = Frame.of(model, request.height, request.width)
    wishes = request.heard(model)
    for key in wishes:
        if key in OF_PICTURE_SIZE:
            wishes[key] = each(frame.extended, wishes[key])
        elif key == "low_resolution":
            wishes[key] = each(frame.extended_small, wishes[key])
    start = None
    if request.start is not None:
        start = Start(_encoded(model, frame.extended(request.start[None])), request.strength)
    if "hole" in request.wishes and "hole" not in wishes:
        steer = _both(steer, keeping(model, request, frame, seed))
    size = {"height": frame.padded_height, "width": frame.padded_width}
    for update in generate(model, wishes, plan, n=request.n, seed=seed, start=start, steer=steer, **size):
        if update.image is None:
            yield update
        else:
            yield replace(update, image=_completed(request, update.first, frame.cropped(update.image)))


def keeping(model: LatentDiffusion, request: Request, frame: Frame, seed: int) -> Steer:
    """Keep what is known of a request's pictures, whatever the model: `diffusion.wrappers.inpainting`.

    The hole is filled with the mean colour of the rest before the picture is encoded, so what was in it has no
    influence; and a latent position counts as known only if its neighbours are.
    """
    factor = model.autoencoder.factor

    def one(image: Tensor, hole: Tensor) -> tuple[Latent, Tensor]:
        image, hole = frame.extended(image), frame.extended(hole)
        z = _encoded(model, emptied(image, hole)[None])
        return z, latent_mask(~hole[None], factor, MARGIN if factor > 1 else 0).to(z.device)

    pairs = each(one, request.wishes["image"], request.wishes["hole"])

    def steer(denoise: Denoise, rows: slice) -> Denoise:
        x_0, mask = (torch.cat(column) for column in zip(*pairs[rows], strict=True))
        if not request.renoised:
            return keep_known(denoise, x_0, mask)
        noise = SampleNoise([fold(seed, "known", k) for k in range(request.n)[rows]])
        return keep_known_renoised(denoise, x_0, mask, model.denoiser.schedule, noise)

    return steer


def emptied(image: Image, hole: Tensor) -> Image:
    """A picture (3, H, W) with its hole (1, H, W) in the mean colour of the rest."""
    known = (~hole).to(image)
    mean = (image * known).sum((1, 2), keepdim=True) / known.sum().clamp(min=1)
    return torch.where(hole, mean, image)


def each(f: Callable[..., Value], *columns: Sequence[Any]) -> list[Value]:
    """f of every row, computed once for rows of the same objects: a picture wished for n times is held once."""
    done: dict[tuple[int, ...], Value] = {}
    keys = []
    for row in zip(*columns, strict=True):
        keys.append(tuple(map(id, row)))
        if keys[-1] not in done:
            done[keys[-1]] = f(*row)
    return [done[key] for key in keys]


def _completed(request: Request, first: int, images: Image) -> Image:
    if "hole" not in request.wishes:
        return images
    rows = slice(first, first + len(images))
    holes = torch.stack(list(request.wishes["hole"][rows])).to(images.device)
    return paste(images, torch.stack(list(request.wishes["image"][rows])).to(images), ~holes)


def _both(first: Steer | None, second: Steer) -> Steer:
    if first is None:
        return second
    return lambda denoise, rows: second(first(denoise, rows), rows)


@torch.no_grad()
def _encoded(model: LatentDiffusion, image: Image) -> Latent:
    """Without noise, in tiles where it is large."""
    device = next(model.denoiser.parameters()).device
    return Bounded(model.autoencoder).encode(image.to(device))

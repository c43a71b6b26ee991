"""Whether pictures do what was wished for, going by label maps that a judge made of them.

Maps are (n, H, W) uint8 with 0 for the background and k + 1 for objects of class k; every measure has a value or two
counts for each picture, so that its spread over pictures can be found (`studies.finding`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from calotype.data.images import to_tensor
from calotype.data.scenes import drawing
from calotype.generation.images import to_uint8
from calotype.layout import UNLABELLED, Box, Layout
from calotype.studies.finding import Ratio
from calotype.types import Image

VISIBLE = 40 / 64**2
"""The share of a picture from which a class counts as seen; the smallest emoji of a scene are four times as large."""

Classes = Collection[int]


# --- sets of classes ----------------------------------------------------------------------------------------------


def named(caption: str, classes: Sequence[str]) -> set[int]:
    """The classes whose names are words of a caption."""
    words = set(re.findall(r"\w+", caption.casefold()))
    return {k for k, name in enumerate(classes) if name.casefold() in words}


def held(layout: Layout) -> set[int]:
    """The classes of a layout's boxes."""
    return {box.label for box in layout.boxes}


def seen(maps: Tensor, classes: int) -> list[set[int]]:
    """The classes that cover enough of each map."""
    share = _one_hot(maps, classes + 1)[:, 1:].float().mean((2, 3))
    return [set(torch.nonzero(row >= VISIBLE).flatten().tolist()) for row in share]


def agreement(found: Sequence[Classes], wished: Sequence[Classes]) -> Ratio:
    """F1 of two sets of classes, 2 |A and B| / (|A| + |B|), in the mean over pictures; 1 where both are empty."""
    pairs = [(set(a), set(b)) for a, b in zip(found, wished, strict=True)]
    return Ratio.mean(torch.tensor([2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0 for a, b in pairs]))


def exactness(found: Sequence[Classes], wished: Sequence[Classes]) -> Ratio:
    """Share of the pictures with exactly the classes that were wished for."""
    return Ratio.mean(torch.tensor([float(set(a) == set(b)) for a, b in zip(found, wished, strict=True)]))


def largest(maps: Tensor, labels: Sequence[int], classes: int) -> Ratio:
    """Share of the pictures whose largest class is the one that was wished for."""
    size = _one_hot(maps, classes + 1)[:, 1:].sum((2, 3))
    right = (size.argmax(1) == torch.tensor(labels)) & (size.amax(1) > 0)
    return Ratio.mean(right)


# --- boxes --------------------------------------------------------------------------------------------------------


def box_overlap(maps: Tensor, layouts: Sequence[Layout]) -> Ratio:
    """IoU of the pixels of class k with the boxes of class k, in the mean over wished (picture, class).

    Objects do not fill their boxes and hide one another: what is real does not come to 1.
    """
    pairs = [[_iou(m == k + 1, _inside(layout, k, m)) for k in held(layout)] for m, layout in _each(maps, layouts)]
    return _pooled(pairs)


def boxes_won(maps: Tensor, layouts: Sequence[Layout], classes: int) -> Ratio:
    """Share of the boxes in which the wished class covers more than any other class of objects does."""
    won = []
    for m, layout in _each(maps, layouts):
        sizes = [torch.bincount(m[_pixels(b, m)].flatten().int(), minlength=classes + 1)[1:] for b in layout.boxes]
        won.append([float(s[b.label] > 0 and s[b.label] == s.max()) for b, s in zip(layout.boxes, sizes, strict=True)])
    return _pooled(won)


def _pooled(values: Sequence[Sequence[float]]) -> Ratio:
    """The mean over all values, some of which belong to each picture."""
    part, whole = torch.tensor([sum(v) for v in values]), torch.tensor([len(v) for v in values])
    return Ratio(part[:, None].double(), whole[:, None].double())


def _each(maps: Tensor, layouts: Sequence[Layout]) -> list[tuple[Tensor, Layout]]:
    return list(zip(maps, layouts, strict=True))


def _pixels(box: Box, like: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the pixels whose middles a box holds."""
    height, width = like.shape
    y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    rows, columns = torch.nonzero((y >= box.y0) & (y < box.y1)), torch.nonzero((x >= box.x0) & (x < box.x1))
    return rows, columns.T


def _inside(layout: Layout, label: int, like: Tensor) -> Tensor:
    """(H, W) bool: what the boxes of a class cover."""
    covered = torch.zeros_like(like, dtype=torch.bool)
    for box in layout.boxes:
        if box.label == label:
            covered[_pixels(box, like)] = True
    return covered


def _iou(a: Tensor, b: Tensor) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


# --- label maps ---------------------------------------------------------------------------------------------------


def accuracy(maps: Tensor, wished: Tensor, where: Tensor | None = None) -> Ratio:
    """Share of the pixels that are of the wished area, all pictures together; unlabelled ones do not count.

    Args:
        where: (n, H, W) bool, the pixels that do; all if None.
    """
    counts = _counting(wished, where)
    return Ratio(((maps == wished) & counts).sum((1, 2))[:, None], counts.sum((1, 2))[:, None])


def overlap(maps: Tensor, wished: Tensor, areas: int, where: Tensor | None = None) -> Ratio:
    """mIoU: per area, intersection and union over all pictures; then the mean over areas that occur.

    Args:
        where: see `accuracy`.
    """
    counts = _counting(wished, where)[:, None]
    a, b = _one_hot(maps, areas) & counts, _one_hot(wished, areas) & counts
    return Ratio((a & b).sum((2, 3)), (a | b).sum((2, 3)))


def _counting(wished: Tensor, where: Tensor | None) -> Tensor:
    return wished != UNLABELLED if where is None else (wished != UNLABELLED) & where


def _one_hot(maps: Tensor, areas: int) -> Tensor:
    """(n, H, W) -> (n, areas, H, W) bool."""
    return maps[:, None] == torch.arange(areas, dtype=torch.uint8)[:, None, None]


# --- drawings -----------------------------------------------------------------------------------------------------


def drawn(images: Image, maps: Tensor) -> Tensor:
    """The drawing of each picture, as scenes have one, its objects being those of a map: (n, H, W) in [-1, 1]."""
    pixels, owners = to_uint8(images).permute(0, 2, 3, 1).numpy(), maps.numpy().astype(np.int8) - 1
    return to_tensor(np.stack([drawing(p, o) for p, o in zip(pixels, owners, strict=True)]))[:, 0]  # grey


def correlation(a: Tensor, b: Tensor) -> Ratio:
    """Pearson's r of the pixels of each pair (n, H, W), in the mean; 0 where one of them is blank."""
    x, y = (v.flatten(1).double() - v.flatten(1).double().mean(1, keepdim=True) for v in (a, b))
    scale = (x.square().sum(1) * y.square().sum(1)).sqrt()
    return Ratio.mean(torch.where(scale > 0, (x * y).sum(1) / scale.clamp(min=1e-12), 0.0))

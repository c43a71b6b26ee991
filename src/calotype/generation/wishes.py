"""Wishes as people see them: a line of text, or a picture of what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from calotype.conditioning.conditioner import Conditioners
from calotype.data.colours import colour, coloured
from calotype.data.images import to_tensor
from calotype.layout import Box, Layout

DRAWN = 256
"""Pixels of the long side of a drawing, so that names can be read in it."""

LARGEST = 512
"""Pixels that it may have where pictures are as large."""

MISSING = 0.6
"""Grey, in [-1, 1], of what is to be painted."""


def texts(wishes: Mapping[str, Sequence[Any]], n: int, classes: Sequence[str] = ()) -> list[str]:
    """What to write below each of n pictures: caption and class, as far as they say something.

    Args:
        classes: names of labels that are numbers.
    """
    captions = [str(caption) for caption in wishes.get("caption", [""] * n)]
    labels = [_named(label, classes) for label in wishes.get("label", [""] * n)]
    return [" / ".join(text for text in both if text) for both in zip(captions, labels, strict=True)]


def _named(label: int | str, classes: Sequence[str]) -> str:
    if isinstance(label, str):
        return label
    return "" if label == -1 else classes[label] if label < len(classes) else str(label)


def drawings(
    wishes: Mapping[str, Sequence[Any]], conditioner: Conditioners, size: tuple[int, int] | None = None
) -> dict[str, list[Tensor]]:
    """Entry -> its drawing (3, H, W) in [-1, 1] for every sample, of the wishes that can be drawn.

    Args:
        conditioner: of the model that the wishes are for; it knows the names of objects and areas.
        size: height and width of the pictures wished for, whose shape drawings of boxes get; None = square.
    """
    names = conditioner.names
    height, width = (DRAWN, DRAWN) if size is None else size
    scale = _bounded(max(height, width)) / max(height, width)
    paper = max(1, round(height * scale)), max(1, round(width * scale))
    draw: dict[str, Callable[[int], Tensor]] = {
        "layout": lambda i: layout_picture(wishes["layout"][i], names.get("layout", ()), paper),
        "label_map": lambda i: area_picture(wishes["label_map"][i]),
        "low_resolution": lambda i: enlarged(wishes["low_resolution"][i]),
        "hole": lambda i: torch.where(wishes["hole"][i], MISSING, wishes["image"][i]),
        "conditioning_image": lambda i: wishes["conditioning_image"][i],
        "reference": lambda i: wishes["reference"][i],
    }
    return {key: [one(i) for i in range(len(wishes[key]))] for key, one in draw.items() if key in wishes}


def layout_picture(layout: Layout, classes: Sequence[str], size: tuple[int, int] = (DRAWN, DRAWN)) -> Tensor:
    """Boxes with their names on white, (3, height, width).

    Args:
        size: height and width.
    """
    height, width = size
    side = max(size)
    sheet = PILImage.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(max(4, side // 14))
    for box in layout.boxes:
        corners = _corners(box, height, width)
        pen.rectangle(corners, outline=colour(box.label), width=max(2, side // 85))
        name = classes[box.label] if box.label < len(classes) else str(box.label)
        pen.text((corners[0] + side // 40, corners[1] + side // 64), name, colour(box.label), font)
    return to_tensor(np.asarray(sheet))


def _corners(box: Box, height: int, width: int) -> tuple[float, float, float, float]:
    """In pixels, the last ones included; Pillow wants the second corner not before the first."""
    left, top = min(box.x0 * width, width - 1), min(box.y0 * height, height - 1)
    return left, top, max(box.x1 * width - 1, left), max(box.y1 * height - 1, top)


def area_picture(label_map: Tensor) -> Tensor:
    """(H, W) uint8 -> colours (3, H, W); unlabelled pixels are white."""
    return to_tensor(coloured(label_map.cpu().numpy()))


def enlarged(image: Tensor, side: int = DRAWN) -> Tensor:
    """A small picture with its pixels as squares, its long side `side` or a little less."""
    factor = max(1, side // max(image.shape[-2:]))
    return image.repeat_interleave(factor, -2).repeat_interleave(factor, -1).clamp(-1, 1)


def sheet(rows: Mapping[str, Sequence[Tensor]], side: int | None = None) -> Tensor:
    """Rows of pictures of any size as columns of one sheet: (n rows, 3, side, side), sample by sample.

    Args:
        side: None = the longest side there is, within `DRAWN` ... `LARGEST`.
    """
    if side is None:
        side = _bounded(max((max(picture.shape[-2:]) for row in rows.values() for picture in row), default=DRAWN))
    shown = [[_fitted(picture, side) for picture in row] for row in rows.values()]
    return torch.stack([picture for column in zip(*shown, strict=True) for picture in column])


def _bounded(side: int) -> int:
    return min(max(side, DRAWN), LARGEST)


def _fitted(picture: Tensor, side: int) -> Tensor:
    if picture.shape[-2:] == (side, side):
        return picture
    height, width = picture.shape[-2:]
    scale = side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    fitted = F.interpolate(picture[None].float(), size, mode="bicubic", antialias=scale < 1)[0].clamp(-1, 1)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    return F.pad(fitted, (left, side - size[1] - left, top, side - size[0] - top), value=1.0)

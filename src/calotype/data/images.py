"""Pictures from files to tensors and back, with limits.

Only PNG, JPEG, WebP, BMP and GIF (its first frame) are opened. EXIF orientation is applied; transparency is laid on a
background; grey, palette, CMYK and 16-bit pictures become RGB.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from calotype.errors import BadImage

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
MAX_PIXELS = 64_000_000
WHITE = (255, 255, 255)

TURNS = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientations by which width and height change places."""

Pixels = NDArray[np.uint8]


def open_image(
    source: Path | str | bytes, max_pixels: int = MAX_PIXELS, background: tuple[int, int, int] = WHITE
) -> Image.Image:
    """An RGB picture.

    Args:
        source: a file, or its content.
        max_pixels: larger pictures are refused before they are decoded.
        background: what shows through where the picture is transparent.

    Raises:
        BadImage: not a picture in one of `FORMATS`, damaged, or too large.
    """
    with decoding(source, max_pixels) as image:
        image.seek(0)
        image.load()
        return _rgb(ImageOps.exif_transpose(image), background)


@dataclass(frozen=True)
class Header:
    """What a picture's file says about it before it is decoded.

    Args:
        size: width and height as stored.
        turn: how the stored picture is turned to stand upright, if width and height change places by that.
    """

    size: tuple[int, int]
    turn: Image.Transpose | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of what `open_image` gives."""
        return self.size if self.turn is None else (self.size[1], self.size[0])


def read_header(path: Path | str, max_pixels: int = MAX_PIXELS) -> Header:
    """The size of a picture, which is not decoded; raises `BadImage`."""
    with decoding(path, max_pixels) as image:
        # Pillow decodes a PNG to look for notes behind its pixels, a place where cameras put none.
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
        return Header(image.size, TURNS.get(exif.get(ExifTags.Base.Orientation, 1)))


@contextmanager
def decoding(
    source: Path | str | bytes, max_pixels: int, formats: tuple[str, ...] = FORMATS
) -> Iterator[ImageFile.ImageFile]:
    """The opened file; whatever goes wrong with it inside the context becomes `BadImage`."""
    # A name that is no UTF-8 could not be printed.
    name = "image" if isinstance(source, bytes) else str(source).encode(errors="replace").decode()
    # Pillow's warnings stay on: silencing them is not safe in threads, and decoding happens in threads.
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise BadImage(
                    f"{name} is {width} x {height}, more than {max_pixels / 1e6:.0f} megapixels; make it smaller"
                )
            yield image
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage(f"{name} is no {', '.join(formats)} picture or is damaged; remove or replace it") from error
    except Image.DecompressionBombError as error:  # raised before the size can be asked for
        raise BadImage(f"{name} has more than {max_pixels / 1e6:.0f} megapixels; make it smaller") from error
    except Exception as error:  # decoders raise whatever the damage makes them raise
        raise BadImage(
            f"{name} cannot be read as a picture ({type(error).__name__}: {error}); remove or replace it"
        ) from error


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, whatever its brightest value is: a dark picture stays dark
        image = Image.fromarray((np.asarray(image, dtype=np.float32) / 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        under = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(under, rgba).convert("RGB")
    return image.convert("RGB")


def scaled_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height after the short side is brought to `side` pixels."""
    scale = side / min(size)
    return max(side, round(size[0] * scale)), max(side, round(size[1] * scale))


def scaled(image: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """Scale the short side to `side`. The result grows with the ratio of the sides; see `square`."""
    size = scaled_size(image.size, side)
    return image if size == image.size else image.resize(size, resample)


def place(size: tuple[int, int], side: int, x: float, y: float) -> tuple[int, int]:
    """Left and top of a square of `side` pixels at (x, y) in [0, 1] of what is left over."""
    return round((size[0] - side) * x), round((size[1] - side) * y)


def square_box(
    size: tuple[int, int], side: int, x: float = 0.5, y: float = 0.5, share: float = 1.0
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in pixels of a picture of this width and height, of what `square` shows."""
    width, height = size
    if share < 1:
        short = share * min(size)
        left, top = (width - short) * x, (height - short) * y
        return left, top, min(width, left + short), min(height, top + short)
    wide, high = scaled_size(size, side)
    left, top = place((wide, high), side, x, y)
    return (
        left * width / wide,
        top * height / high,
        min(width, (left + side) * width / wide),
        min(height, (top + side) * height / high),
    )


def square(
    image: Image.Image,
    side: int,
    x: float = 0.5,
    y: float = 0.5,
    share: float = 1.0,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """Scale to `side` pixels the square at (x, y) in [0, 1] of what is left over, `share` of the short side wide.

    Only the pixels of the square are computed: scaled as a whole, a picture of 1 x 60,000,000 would fill the memory.
    """
    if share == 1 and min(image.size) == side:
        left, top = place(image.size, side, x, y)
        return image.crop((left, top, left + side, top + side))
    return image.resize((side, side), resample, square_box(image.size, side, x, y, share))


def to_tensor(pixels: Pixels) -> Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [-1, 1]."""
    x = torch.from_numpy(np.array(pixels)).movedim(-1, -3)  # a copy: Pillow's arrays are read-only
    return x.float().mul_(1 / 127.5).sub_(1.0)

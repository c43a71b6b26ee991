"""Pictures from files to tensors and back, with limits.

Only PNG, JPEG, WebP, BMP and GIF (its first frame) are opened. EXIF orientation is applied; transparency is laid on a
background; grey, palette, CMYK and 16-bit pictures become RGB.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from calotype.errors import BadImage

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
MAX_PIXELS = 64_000_000
WHITE = (255, 255, 255)

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
    # A name that is no UTF-8 could not be printed.
    name = "image" if isinstance(source, bytes) else str(source).encode(errors="replace").decode()
    # Pillow's warnings stay on: silencing them is not safe in threads, and decoding happens in threads.
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise BadImage(
                    f"{name} is {width} x {height}, more than {max_pixels / 1e6:.0f} megapixels; make it smaller"
                )
            image.seek(0)
            image.load()
            return _rgb(ImageOps.exif_transpose(image), background)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage(f"{name} is no {', '.join(FORMATS)} picture or is damaged; remove or replace it") from error
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

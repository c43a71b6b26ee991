"""Pictures from files to tensors and back, with limits.

Only PNG, JPEG, WebP, BMP and GIF (its first frame) are opened. EXIF orientation is applied; transparency is laid on a
background; grey, palette, CMYK and 16-bit pictures become RGB.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
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
    name = "image" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit is below the one Pillow warns at
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
    except Exception as error:  # decoders raise whatever the damage makes them raise
        raise BadImage(
            f"{name} cannot be read as a picture ({type(error).__name__}: {error}); remove or replace it"
        ) from error


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        values = np.asarray(image, dtype=np.float32)
        image = Image.fromarray(
            (values / (65535.0 if values.max(initial=0) > 255 else 255.0) * 255).clip(0, 255).astype(np.uint8)
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        under = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(under, rgba).convert("RGB")
    return image.convert("RGB")


def square(image: Image.Image, side: int, x: float = 0.5, y: float = 0.5) -> Image.Image:
    """Scale the short side to `side` (Lanczos) and cut a square at (x, y) in [0, 1] of what is left over."""
    width, height = image.size
    scale = side / min(width, height)
    wide, high = max(side, round(width * scale)), max(side, round(height * scale))
    if (wide, high) != (width, height):
        image = image.resize((wide, high), Image.Resampling.LANCZOS)
    left, top = round((wide - side) * x), round((high - side) * y)
    return image.crop((left, top, left + side, top + side))


def to_tensor(pixels: Pixels) -> Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [-1, 1]."""
    x = torch.from_numpy(np.array(pixels)).movedim(-1, -3)  # a copy: Pillow's arrays are read-only
    return x.float().mul_(1 / 127.5).sub_(1.0)

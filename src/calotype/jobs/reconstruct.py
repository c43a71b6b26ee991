"""Pictures through the autoencoder and back: RUN IMAGES... -> original and reconstruction side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from torch import Tensor

from calotype.autoencoder import tiling
from calotype.autoencoder.base import Autoencoder
from calotype.console import console, counting
from calotype.data.images import SUFFIXES, Pixels, open_image, to_tensor
from calotype.errors import UserError
from calotype.evaluation.reconstruction import PSNR_CEILING
from calotype.generation.images import grid, save_png, to_uint8
from calotype.model import load_autoencoder, model_folder
from calotype.runtime import best_device

GAP = 4
"""White pixels between original and reconstruction."""

SHEET_PAIRS, SHEET_CELL = 16, 256
"""Pairs on the contact sheet, and the pixels that each of its pictures is made to fit."""


def reconstruct(run: Path, images: Sequence[Path], out: Path | None) -> list[Path]:
    """Write one picture per image, original left, reconstruction right; any size up to 64 megapixels.

    Large ones go through the network in tiles, with the same result. Several pictures also get a contact sheet,
    sheet.png, of the first sixteen pairs, and the mean PSNR.

    Returns:
        The pairs' files, without the sheet.

    Raises:
        UserError: no model there, no pictures given, one that cannot be read (nothing is written then).
        DiskFull: no room for the pictures, or for the feature maps of large ones.
    """
    files = _expanded(images)
    autoencoder = load_autoencoder(model_folder(run)).to(best_device())
    for file in files:  # all are read twice: they are too large to be held, and a bad one is to be met before the first
        open_image(file)
    out = out or run / "reconstructed"
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    scores: list[float] = []
    small: list[PILImage.Image] = []
    with counting(f"reconstructing {len(files)} pictures", len(files)) as advance:
        for k, file in enumerate(files):
            pixels = np.asarray(open_image(file))
            height, width, _ = pixels.shape
            if not tiling.fits(autoencoder, height, width):
                console().print(
                    f"  {file}: {width} x {height} is large; it goes through in tiles of {tiling.TILE} pixels, with "
                    "the same result",
                    markup=False,
                )
            both = np.full((height, 2 * width + GAP, 3), 255, np.uint8)
            both[:, :width] = pixels
            del pixels
            original, result = both[:, :width], both[:, width + GAP :]
            through(autoencoder, original, result)
            path = out / f"{k:04d}-{file.stem}.png"
            save_png(PILImage.fromarray(both), path)
            written.append(path)
            scores.append(_psnr(original, result))
            if k < SHEET_PAIRS:
                small += [_small(original), _small(result)]
            advance(1)
            console().print(f"  {file}: PSNR {scores[-1]:.2f} dB -> {path}", markup=False)
    if len(files) > 1:
        sheet = out / "sheet.png"
        save_png(_sheet(small, [(f.name, f"{s:.2f} dB") for f, s in zip(files, scores, strict=True)]), sheet)
        mean = sum(scores) / len(scores)
        console().print(f"mean PSNR of {len(files)} pictures: {mean:.2f} dB; side by side: {sheet}", markup=False)
    return written


def through(autoencoder: Autoencoder, original: Pixels, result: Pixels) -> None:
    """Write decode(encode(original)) into `result`, both uint8 (H, W, 3) of any size.

    It goes region by region: as floats, a large picture would take four times the memory."""

    def read(box: tiling.Box) -> Tensor:
        return to_tensor(original[box.slices])[None]

    def write(box: tiling.Box, values: Tensor) -> None:
        result[box.slices] = to_uint8(values[0]).permute(1, 2, 0).cpu().numpy()

    tiling.stream(autoencoder, tiling.Picture(original.shape[0], original.shape[1], read), write)


def _psnr(x: Pixels, y: Pixels) -> float:
    """`evaluation.reconstruction.psnr` of two uint8 pictures (H, W, 3), with one row of them as floats at a time."""
    error = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in zip(x, y, strict=True)) / x.size
    return min(PSNR_CEILING, 10 * math.log10(255.0**2 / error)) if error else PSNR_CEILING


def _small(pixels: Pixels) -> PILImage.Image:
    picture = PILImage.fromarray(pixels)
    picture.thumbnail((SHEET_CELL, SHEET_CELL), PILImage.Resampling.LANCZOS)
    return picture


def _sheet(small: Sequence[PILImage.Image], texts: Sequence[tuple[str, str]]) -> PILImage.Image:
    """Originals and results in turn, two pairs a row, each in the middle of a square that holds the largest."""
    side = max(max(picture.size) for picture in small)
    cells = np.full((len(small), side, side, 3), 255, np.uint8)
    for cell, picture in zip(cells, small, strict=True):
        left, top = (side - picture.width) // 2, (side - picture.height) // 2
        cell[top : top + picture.height, left : left + picture.width] = np.asarray(picture)
    captions = [text for pair in texts for text in pair][: len(small)]
    return grid(to_tensor(cells), columns=4, captions=captions, title="Original and reconstruction")


def _expanded(images: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"there is no picture {path}; name pictures or a folder of them")
    if not files:
        raise UserError(
            f"no pictures in {', '.join(map(str, images)) or 'the empty list'}; looked for {', '.join(SUFFIXES)}, "
            "not in subfolders"
        )
    return files

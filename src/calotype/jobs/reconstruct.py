"""Pictures through the autoencoder and back: RUN IMAGES... -> original and reconstruction side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor
from torch.nn import functional as F

from calotype.autoencoder.base import Autoencoder
from calotype.console import console, counting
from calotype.data.images import SUFFIXES, open_image, to_tensor
from calotype.errors import UserError
from calotype.evaluation.reconstruction import psnr
from calotype.generation.images import save_png, to_pil
from calotype.model import load_autoencoder, model_folder
from calotype.runtime import best_device

MAX_PIXELS = 4_000_000
"""Larger pictures would need more memory than a picture is worth; tiling is for later."""


def reconstruct(run: Path, images: Sequence[Path], out: Path | None) -> list[Path]:
    """Write one picture per image, original left, reconstruction right; any size (padded by reflection, then cropped).

    Raises:
        UserError: no model there, no pictures given, one that cannot be read (nothing is written then).
    """
    files = _expanded(images)
    device = best_device()
    autoencoder = load_autoencoder(model_folder(run)).to(device)
    loaded = [(f, to_tensor(np.asarray(open_image(f, MAX_PIXELS)))) for f in files]
    out = out or run / "reconstructed"
    out.mkdir(parents=True, exist_ok=True)
    written = []
    with counting(f"reconstructing {len(files)} pictures", len(files)) as advance:
        for k, (file, x) in enumerate(loaded):
            with torch.no_grad():
                y = through(autoencoder, x[None].to(device)).cpu()
            both = PILImage.new("RGB", (2 * x.shape[2] + 4, x.shape[1]), "white")
            both.paste(to_pil(x), (0, 0))
            both.paste(to_pil(y[0]), (x.shape[2] + 4, 0))
            path = out / f"{k:04d}-{file.stem}.png"
            save_png(both, path)
            written.append(path)
            advance(1)
            console().print(f"  {file}: PSNR {float(psnr(x[None], y)[0]):.2f} dB -> {path}", markup=False)
    return written


def through(autoencoder: Autoencoder, x: Tensor) -> Tensor:
    """decode(encode(x)) for any size (1, 3, H, W): padded by reflection to a multiple of the factor, then cropped."""

    height, width = x.shape[-2:]
    f = autoencoder.factor
    down, right = -height % f, -width % f
    mode = "reflect" if down < height and right < width else "replicate"
    padded = F.pad(x, (0, right, 0, down), mode=mode)
    y: Tensor = autoencoder.decode(autoencoder.encode(padded))
    return y[..., :height, :width].clamp(-1, 1)


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

"""How well an autoencoder gives pictures back: PSNR and SSIM, one value per picture.

Both compare 8-bit RGB pictures. A table shows the mean over pictures and their standard deviation, as in table 8 of
Rombach et al. 2022, https://arxiv.org/abs/2112.10752: dB are averaged, not errors, which a few bad pictures would rule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from calotype.generation.images import to_uint8
from calotype.types import Image

PSNR_CEILING = 100.0
"""dB that equal pictures count; infinity would swallow every mean."""


def psnr(x: Image, y: Image) -> Tensor:
    """10 log10(255^2 / MSE) of each pair of pictures (B, 3, H, W) in [-1, 1] -> (B,) dB, float64."""
    _same(x, y)
    mse = (to_uint8(x).double() - to_uint8(y).double()).square().mean((1, 2, 3))
    return (10 * torch.log10(255.0**2 / mse)).clamp(max=PSNR_CEILING)


def ssim(x: Image, y: Image) -> Tensor:
    """Structural similarity of each pair of pictures (B, 3, H, W) in [-1, 1] -> (B,), at most 1.

    Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861: 11 x 11 Gaussian window with sigma 1.5, K1 = .01,
    K2 = .03, mean over channels and over the places where the window lies inside the picture.

    Raises:
        ValueError: pictures smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as measure  # late: seconds to import

    _same(x, y)
    if min(x.shape[-2:]) < 11:
        raise ValueError(f"SSIM looks through a window of 11 x 11 pixels, got pictures of {tuple(x.shape[-2:])}")
    values = []
    for some_x, some_y in zip(
        torch.split(x, 8), torch.split(y, 8), strict=True
    ):  # a few: the windows take 121 times their memory
        # On [0, 1], not [-1, 1]: SSIM compares means by their ratio, so it depends on where black lies.
        a, b = to_uint8(some_x).double() / 255, to_uint8(some_y).double() / 255
        found = measure(a, b, sigma=1.5, kernel_size=11, data_range=1.0, reduction="none", return_full_image=True)
        assert isinstance(found, tuple)
        # torchmetrics mirrors the pictures beyond their borders; the definition has no window that looks outside.
        values.append(found[1].reshape(a.shape)[..., 5:-5, 5:-5].mean((1, 2, 3)))
    return torch.cat(values)


def _same(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or x.ndim != 4:
        raise ValueError(f"two sets of pictures (B, 3, H, W) were expected, got {tuple(x.shape)} and {tuple(y.shape)}")

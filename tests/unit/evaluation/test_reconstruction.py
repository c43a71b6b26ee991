"""PSNR and SSIM against their formulas."""

import math

import pytest
import torch
from torch import Tensor

from calotype.evaluation.reconstruction import PSNR_CEILING, psnr, ssim


def from_levels(levels: Tensor) -> Tensor:
    return levels.float() / 127.5 - 1


def test_psnr_of_a_known_error() -> None:
    x = torch.full((2, 3, 4, 4), 100)
    y = x.clone()
    y[0] += 10
    y[1, 0, 0, 0] += 48  # MSE = 48^2 / 48 = 48
    expected = [20 * math.log10(255 / 10), 10 * math.log10(255**2 / 48)]
    assert psnr(from_levels(x), from_levels(y)).tolist() == pytest.approx(expected, rel=1e-12)


def test_equal_pictures_count_the_ceiling_and_no_infinity() -> None:
    x = torch.rand(1, 3, 8, 8)
    assert psnr(x, x).tolist() == [PSNR_CEILING]


def test_errors_below_half_a_level_are_not_seen() -> None:
    x = from_levels(torch.randint(0, 256, (1, 3, 8, 8)))
    assert psnr(x, x + 0.4 / 127.5).tolist() == [PSNR_CEILING]


def by_hand(x: Tensor, y: Tensor) -> float:
    """Mean SSIM of one channel (H, W) on 0 ... 255, window by window."""
    r = torch.arange(11).double() - 5
    w = torch.exp(-r.square() / (2 * 1.5**2))
    w = torch.outer(w, w) / w.sum() ** 2
    c_1, c_2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            m, n = (w * a).sum(), (w * b).sum()
            s, t, st = (w * a * a).sum() - m * m, (w * b * b).sum() - n * n, (w * a * b).sum() - m * n
            values.append((2 * m * n + c_1) * (2 * st + c_2) / ((m * m + n * n + c_1) * (s + t + c_2)))
    return float(torch.stack(values).mean())


def test_ssim_equals_the_formula() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (2, 3, 16, 14), generator=g).double()
    y = (x + 40 * torch.randn(x.shape, generator=g)).round().clamp(0, 255)
    expected = [sum(by_hand(x[i, c], y[i, c]) for c in range(3)) / 3 for i in range(2)]
    assert ssim(from_levels(x), from_levels(y)).tolist() == pytest.approx(expected, rel=1e-5)


def test_ssim_of_equal_pictures_is_one() -> None:
    x = torch.rand(3, 3, 11, 20) * 2 - 1
    assert ssim(x, x).tolist() == pytest.approx([1, 1, 1])
    assert ssim(x[:1], x[:1]).shape == (1,)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="window"):
        ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="two sets"):
        psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))

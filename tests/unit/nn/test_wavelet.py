"""The 5/3 wavelet against its definition as a filter bank, written out as a matrix."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from calotype.nn.wavelet import Analysis, Synthesis, analyse, join, split, synthesise

F64 = torch.float64
LOW = {-2: -1 / 8, -1: 2 / 8, 0: 6 / 8, 1: 2 / 8, 2: -1 / 8}
HIGH = {-1: -1 / 2, 0: 1.0, 1: -1 / 2}
"""LeGall's filters: the coarse band's at even positions, the detail's at odd ones (ISO/IEC 15444-1, table F.3)."""


def matrix(n: int) -> Tensor:
    """(n, n): the coarse half, then the detail half, with borders mirrored about the outermost sample."""
    w = torch.zeros(n, n, dtype=F64)
    for at in range(n):
        row, taps = (at // 2, LOW) if at % 2 == 0 else (n // 2 + at // 2, HIGH)
        for offset, tap in taps.items():
            i = abs(at + offset)
            while i >= n:
                i = abs(2 * (n - 1) - i)
            w[row, i] += tap
    return w


def draw(*shape: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("n", [2, 4, 6, 10, 64])
def test_lifting_is_the_filter_bank(n: int) -> None:
    x = draw(3, n)
    assert torch.allclose(torch.cat(split(x), -1), x @ matrix(n).T, atol=1e-13)
    assert torch.allclose(join(*split(x)), x, atol=1e-13)


def test_one_level_is_the_matrix_on_both_sides() -> None:
    x = draw(2, 3, 8, 12)
    y = matrix(8) @ x @ matrix(12).T
    ll, hl, lh, hh = y[..., :4, :6], y[..., 4:, :6], y[..., :4, 6:], y[..., 4:, 6:]
    assert torch.allclose(analyse(x), torch.cat([ll, lh, hl, hh], 1), atol=1e-13)


def test_two_levels_split_the_coarse_band_again_and_lay_out_the_details() -> None:
    x = draw(2, 3, 8, 16)
    one, two = analyse(x), analyse(x, 2)
    assert two.shape == (2, 48, 2, 4)
    assert torch.equal(two[:, :12], analyse(one[:, :3]))
    assert torch.equal(two[:, 12:], F.pixel_unshuffle(one[:, 3:], 2))


@pytest.mark.parametrize(("levels", "size"), [(1, (2, 2)), (1, (64, 64)), (2, (4, 8)), (2, (64, 48)), (3, (16, 8))])
def test_exactly_invertible(levels: int, size: tuple[int, int]) -> None:
    x = draw(2, 3, *size, dtype=torch.float32)
    bands = analyse(x, levels)
    assert bands.shape == (2, 3 * 4**levels, size[0] // 2**levels, size[1] // 2**levels)
    assert (synthesise(bands, levels) - x).abs().max() < 1e-6 * x.abs().max()
    y = draw(*bands.shape)
    assert torch.allclose(analyse(synthesise(y, levels), levels), y, atol=1e-12), "onto, too"


def test_linear_pictures_have_no_detail_away_from_the_far_border() -> None:
    """The detail band of a straight line is zero, and the coarse band is the line at half the rate."""
    s, d = split(torch.arange(16, dtype=F64))
    assert torch.equal(d[:-1], torch.zeros(7, dtype=F64)) and d[-1] == 1  # the border is a crease
    assert torch.equal(s[:-1], torch.arange(0, 14, 2, dtype=F64))
    flat = analyse(torch.full((1, 1, 8, 8), 0.7, dtype=F64), 2)
    assert torch.allclose(flat[:, 0], torch.tensor(0.7, dtype=F64)) and not flat[:, 1:].any()


def test_not_orthonormal_so_white_noise_is_white_no_more() -> None:
    w = matrix(64)
    variance = (w @ w.T).diagonal()
    assert torch.allclose(variance[2:30], torch.tensor(46 / 64, dtype=F64))
    assert torch.allclose(variance[34:62], torch.tensor(1.5, dtype=F64))


def test_gradients_are_those_of_a_linear_map() -> None:
    x = draw(1, 1, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: synthesise(analyse(x, 2) ** 2, 2), x)


def test_layers_compute_in_float32() -> None:
    x = draw(2, 3, 8, 8).bfloat16()
    bands = Analysis(2)(x)
    assert bands.dtype == torch.float32 and torch.equal(bands, analyse(x.float(), 2))
    assert torch.allclose(Synthesis(2)(bands), x.float(), atol=1e-6)
    assert Analysis(1)(x.double()).dtype == F64


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (6, 8)])
def test_sides_that_cannot_be_halved(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 4, got"):
        analyse(torch.zeros(1, 1, *size), 2)


@pytest.mark.parametrize(("levels", "channels"), [*itertools.product((1, 2), (3, 6, 18))])
def test_channels_that_are_no_bands(levels: int, channels: int) -> None:
    with pytest.raises(ValueError, match=f"need a multiple of {4**levels} channels, got {channels}"):
        synthesise(torch.zeros(1, channels, 2, 2), levels)

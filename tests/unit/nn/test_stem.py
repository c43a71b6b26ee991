"""The outermost layers: what they are equal to, written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from calotype.nn.stem import Convolution, Patches, Stem, Wavelet, stems
from calotype.nn.wavelet import analyse
from calotype.registry import from_plain, to_plain

EACH: list[Stem] = [Convolution(), Patches(2), Patches(4), Wavelet(1), Wavelet(2)]
each = pytest.mark.parametrize("stem", EACH, ids=str)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_every_member_is_tested_here() -> None:
    assert {stems.name_of(stem) for stem in EACH} == {*stems}


@each
def test_there_and_back(stem: Stem) -> None:
    enter, leave = stem.enter(3, 8), stem.leave(8, 5)
    h = enter(draw(2, 3, 16, 8))
    assert h.shape == (2, 8, 16 // stem.factor, 8 // stem.factor)
    out = leave(h)
    assert out.shape == (2, 5, 16, 8) and not out.any(), "a fresh network answers zero"
    for p in leave.parameters():
        nn.init.normal_(p)
    leave(h).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for layer in (enter, leave) for p in layer.parameters())


@each
def test_survives_a_config_file(stem: Stem) -> None:
    assert from_plain(to_plain(stem)) == stem


def test_patches_see_their_own_pixels_only() -> None:
    enter, leave = Patches(4).enter(3, 8), Patches(4).leave(8, 3)
    nn.init.normal_(leave.weight)  # type: ignore[arg-type]
    x = draw(1, 3, 8, 8)
    y = x.clone()
    y[..., 4:, 4:] += 1
    changed = (leave(enter(x)) != leave(enter(y))).any(1)[0]
    assert changed[4:, 4:].all() and not changed[:4].any() and not changed[:, :4].any()


def test_patches_are_a_matrix_on_each_square() -> None:
    enter = Patches(2).enter(3, 8)
    x = draw(2, 3, 4, 4)
    weight, bias = enter.weight.flatten(1), enter.bias  # type: ignore[operator, union-attr]
    expected = weight @ x[:, :, 2:4, 0:2].flatten(1)[..., None] + bias[:, None]  # type: ignore[index]
    assert torch.allclose(enter(x)[:, :, 1, 0], expected[..., 0], atol=1e-5)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_wavelet_loses_nothing(levels: int) -> None:
    """With convolutions that copy, the stem is the identity."""
    n = 3 * 4**levels
    enter, leave = Wavelet(levels, gain=1).enter(3, n), Wavelet(levels).leave(n, 3)
    for conv in (enter[1], leave[0]):  # type: ignore[index]
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)
    x = draw(2, 3, 8, 16)
    assert torch.allclose(enter(x), analyse(x, levels), atol=1e-6)
    assert torch.allclose(leave(enter(x)), x, atol=1e-6)


def test_details_are_louder() -> None:
    x = draw(2, 3, 8, 16)
    bands, loud = analyse(x, 2), Wavelet(2, gain=5).enter(3, 8)[0](x)  # type: ignore[index]
    assert torch.equal(loud[:, :3], bands[:, :3]) and torch.allclose(loud[:, 3:], 5 * bands[:, 3:])


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf")])
def test_gains_that_cannot_be(gain: float) -> None:
    with pytest.raises(ValueError, match="gain must lie in"):
        Wavelet(gain=gain)


@pytest.mark.parametrize("size", [0, 1, 17])
def test_patches_that_cannot_be(size: int) -> None:
    with pytest.raises(ValueError, match="size must lie in 2"):
        replace(Patches(), size=size)


@pytest.mark.parametrize("levels", [0, 4])
def test_wavelets_that_cannot_be(levels: int) -> None:
    with pytest.raises(ValueError, match=r"levels must lie in 1 \.\.\. 3"):
        Wavelet(levels)

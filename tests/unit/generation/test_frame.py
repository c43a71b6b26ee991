"""Sizes of pictures and of what is sampled."""

from __future__ import annotations

import pytest
import torch
from tests.generation_toys import toy
from torch.nn import functional as F

from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.errors import UserError
from calotype.generation.frame import Frame, check_multiples, mirrored, multiple_of


def test_mirrored_is_reflection() -> None:
    x = torch.arange(2 * 3 * 5).view(2, 3, 5)
    wanted = F.pad(x.float(), (0, 4, 0, 2), mode="reflect").to(x)
    assert torch.equal(mirrored(x, 5, 9), wanted)
    assert mirrored(x, 3, 5) is x
    assert mirrored(torch.tensor([[True, False]]), 3, 7).tolist() == [[True, False] * 3 + [True]] * 3


def test_a_frame_is_the_smallest_that_fits() -> None:
    model = toy()
    assert multiple_of(model) == 8 and multiple_of(toy(pixels=True)) == 2
    frame = Frame.of(model, 17, 24)
    assert (frame.padded_height, frame.padded_width) == (24, 24)
    x = torch.rand(3, 17, 24)
    assert torch.equal(frame.cropped(frame.extended(x)), x)
    with pytest.raises(ValueError, match="must be 17 x 24 here"):
        frame.extended(x[:, 1:])
    threefold = toy("low_resolution", times=LowResolutionConfig(times=3))
    frame = Frame.of(threefold, 15, 27)
    assert (frame.padded_height, frame.padded_width) == (24, 48), "multiples of 8 and of 3"
    assert frame.extended_small(torch.rand(3, 5, 9)).shape == (3, 8, 16)


def test_sizes_that_do_not_fit_are_told() -> None:
    model = toy()
    check_multiples(model, 16, 24)
    with pytest.raises(
        UserError, match="height 20 is no multiple of the 8 pixels that this model works in; take 16 or"
    ):
        check_multiples(model, 20, 24)
    with pytest.raises(UserError, match=r"width 1 is no multiple .*; take 8$"):
        check_multiples(model, 16, 1)
    with pytest.raises(UserError, match=r"8000 x 4000 has 32.0 megapixels, 16.8 are the most"):
        Frame.of(model, 4000, 8000)

"""What every registered degradation must do."""

from __future__ import annotations

import numpy as np
import pytest

from calotype.data.degradations import BSR, Bicubic, BSRLight, Degradation, RandomNoise, degradations
from calotype.errors import UserError
from calotype.registry import from_plain, to_plain

PATCHES = BSRLight(blurs=2, resized=0.75, noise=RandomNoise((2, 8)))
FACTORS = [kind(factor) for kind in (Bicubic, BSRLight, BSR) for factor in (2, 3)]
MEMBERS: list[Degradation] = [*(degradations[name]() for name in degradations), *FACTORS, PATCHES]
each = pytest.mark.parametrize("degradation", MEMBERS, ids=lambda d: f"{type(d).__name__}{d.factor}")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@each
def test_survives_a_config_file(degradation: Degradation) -> None:
    assert from_plain(to_plain(degradation)) == degradation


@each
@pytest.mark.parametrize("size", [(2, 5), (1, 1), (10, 7)])
def test_shape_and_type(degradation: Degradation, size: tuple[int, int]) -> None:
    """Also of pictures smaller than any kernel, whatever is drawn."""
    height, width = size
    image = noise(height * degradation.factor, width * degradation.factor)
    for seed in range(12):
        low = degradation(image, np.random.default_rng(seed))
        assert low.shape == (height, width, 3) and low.dtype == np.uint8


@each
def test_the_same_state_gives_the_same_picture(degradation: Degradation) -> None:
    image = noise(24, 36)
    image.setflags(write=False)
    one, two, other = (degradation(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert np.array_equal(one, other) == isinstance(degradation, Bicubic)


@each
def test_brightness_and_colour_stay(degradation: Degradation) -> None:
    """Mean over seeds: noise of 25 / 255 is as often lighter as darker. JPEG's own rounding is below one level."""
    colour = np.array([90, 140, 110])
    image = np.broadcast_to(colour.astype(np.uint8), (24, 24, 3))
    mean = np.mean([degradation(image, np.random.default_rng(seed)).mean((0, 1)) for seed in range(40)], axis=0)
    assert np.abs(mean - colour).max() < 1.5


@each
def test_nothing_moves(degradation: Degradation) -> None:
    """A ramp of 4 levels per pixel, each block's middle. Half a pixel of the sharp picture would be 2 levels."""
    side = 48
    ramp = (20 + 4 * np.arange(side)).astype(np.uint8)
    middle = ramp.reshape(-1, degradation.factor).mean(1)
    inner = slice(len(middle) // 3, -(len(middle) // 3))
    for image, along in (
        (np.broadcast_to(ramp[None, :, None], (side, side, 3)), 1),
        (np.broadcast_to(ramp[:, None, None], (side, side, 3)), 0),
    ):
        lows = [degradation(image, np.random.default_rng(seed)) for seed in range(25)]
        profile = np.mean(lows, axis=(0, 2 - along, 3))
        assert abs((profile - middle)[inner].mean()) < 0.4


@each
def test_other_pictures_are_refused(degradation: Degradation) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=f"multiples of {degradation.factor}, got 12 x 13"):
        degradation(noise(12, 13), rng)
    for wrong in (noise(12, 12).astype(np.float32), noise(12, 12)[..., 0], noise(12, 12)[..., :2], noise(0, 12)):
        with pytest.raises(ValueError, match=r"takes uint8 \(H, W, 3\)"):
            degradation(wrong, rng)


@pytest.mark.parametrize("name", [*degradations])
def test_a_factor_that_does_not_shrink_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="must be 2 or more, got 1"):
        degradations.create(name, factor=1)

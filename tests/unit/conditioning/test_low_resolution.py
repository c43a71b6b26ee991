"""Small pictures at the latent's resolution, noise levels, what is refused."""

from __future__ import annotations

import pytest
import torch
from tests.condition_toys import Squares, Words, draw

from calotype.conditioning.conditioner import Conditioners
from calotype.conditioning.low_resolution import LowResolution, LowResolutionConfig
from calotype.errors import UserError
from calotype.nn.layers import timestep_embedding

SMALL = draw(2, 3, 8, 4)


def build(factor: int = 4, **fields: object) -> LowResolution:
    return LowResolutionConfig(**fields).fit(Words(), Squares(factor))  # type: ignore[arg-type]


def test_a_fourfold_picture_fits_latents_of_factor_4_as_it_is() -> None:
    assert build()({"low_resolution": SMALL}).spatial is SMALL


@pytest.mark.parametrize(("factor", "height"), [(1, 128), (2, 64), (8, 16), (16, 8)])
def test_it_is_resized_to_the_latents_of_the_large_picture(factor: int, height: int) -> None:
    """Nothing is shifted: what says where it is says so afterwards, borders aside."""

    def ramp(n: int) -> torch.Tensor:
        return (torch.arange(n) + 0.5) / n

    small = ramp(32).view(1, 1, -1, 1).expand(2, 3, 32, 16)
    spatial = build(factor)({"low_resolution": small}).spatial
    assert spatial.shape == (2, 3, height, height // 2)
    inside = slice(height // 4, -height // 4)
    torch.testing.assert_close(spatial[0, 0, inside, 1], ramp(height)[inside], rtol=0, atol=2e-3)


def test_the_level_of_noise_is_told_like_a_time() -> None:
    member = build(noise=True, width=10)
    assert member.reads == ("low_resolution", "noise_level") and build().reads == ("low_resolution",)
    condition = member({"low_resolution": SMALL, "noise_level": [0.0, 0.3]})
    torch.testing.assert_close(condition.vector, timestep_embedding(torch.tensor([0.0, 300.0]), 10))
    one_by_one = member({"low_resolution": SMALL, "noise_level": list(torch.tensor([0.0, 0.3]))})
    assert torch.equal(one_by_one.vector, condition.vector)
    assert member.routes().vector == 10 and build().routes().vector is None


def test_noise_levels_are_asked_for_only_if_needed() -> None:
    class Clean(Words):
        entries = ("low_resolution",)

    assert LowResolutionConfig().lacks(Clean()) == ""
    assert LowResolutionConfig(noise=True).lacks(Clean()) == "low-resolution pictures"
    with pytest.raises(UserError, match=r"data\.degradation=bicubic"):
        Conditioners.fit({"low": LowResolutionConfig(noise=True)}, Clean(), Squares())


def test_the_factor_is_that_of_the_data() -> None:
    with pytest.raises(UserError, match="are 4 times smaller here, but the conditioner's times is 2; take times=4"):
        LowResolutionConfig(times=2).fit(Words(), Squares())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"must be RGB pictures, \(3, H, W\) each, got \(4, 8, 8\); drop an alpha"):
        build()({"low_resolution": draw(1, 4, 8, 8)})
    with pytest.raises(UserError, match=r"must be floats in \[-1, 1\], got torch.uint8; for bytes take x / 127.5 - 1"):
        build()({"low_resolution": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)})
    with pytest.raises(UserError, match=r"to become is 20 x 20 pixels, .* factor 8"):
        build(8)({"low_resolution": draw(1, 3, 5, 5)})
    for level in ([0.5], [0.1, 1.2], [0.1, float("nan")]):
        with pytest.raises(UserError, match=r"a number in \[0, 1\] for each of 2 pictures"):
            build(noise=True)({"low_resolution": SMALL, "noise_level": level})
    with pytest.raises(ValueError):
        LowResolutionConfig(times=0)

"""Label maps: the published arithmetic, pixels without an area, what is refused."""

from __future__ import annotations

import pytest
import torch
from tests.condition_toys import Squares, Words, draw
from torch import Tensor
from torch.nn import functional as F

from calotype.conditioning.semantic_map import SemanticMap, SemanticMapConfig
from calotype.errors import UserError
from calotype.layout import UNLABELLED


def build(factor: int = 4, channels: int = 3) -> SemanticMap:
    torch.manual_seed(0)
    return SemanticMapConfig(channels).fit(Words(), Squares(factor))


def drawn(height: int = 16, width: int = 8) -> Tensor:
    ids = ((draw(2, height, width) + 1) * 2).long().clamp(max=3)
    return torch.where(ids == 3, UNLABELLED, ids).to(torch.uint8)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_equals_one_hots_halved_bilinearly_and_convolved(factor: int) -> None:
    """The released SpatialRescaler: `n_stages` times bilinear by 0.5, then a 1 x 1 convolution without bias."""
    member, label_map = build(factor), drawn()
    x = torch.stack([label_map == k for k in range(3)], 1).float()
    while x.shape[2] > 16 // factor:
        x = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    wanted = F.conv2d(x, member.embedding.weight.T[:, :, None, None])
    spatial = member({"label_map": label_map}).spatial
    assert spatial.shape == (2, 3, 16 // factor, 8 // factor)
    torch.testing.assert_close(spatial, wanted)


def test_the_released_number_of_weights() -> None:
    """A convolution of 182 one-hots to 3 channels without bias."""
    assert sum(p.numel() for p in SemanticMap(SemanticMapConfig(), ["x"] * 182, Squares()).parameters()) == 182 * 3


def test_pixels_without_an_area_are_null() -> None:
    member = build()
    nothing = member({"label_map": torch.full((2, 8, 8), UNLABELLED, dtype=torch.uint8)}).spatial
    assert not nothing.any() and torch.equal(nothing, member.null(2).spatial.expand_as(nothing))
    half = torch.full((1, 8, 8), UNLABELLED, dtype=torch.uint8)
    half[:, :, ::2] = 1
    spatial = member({"label_map": half}).spatial
    torch.testing.assert_close(spatial[0, :, 0, 0], member.embedding.weight[1] / 2)


def test_what_is_no_map_is_refused() -> None:
    member, good = build(), drawn()
    assert member.names == Words.areas
    bad = good.clone()
    bad[1, 3, 3] = 7
    with pytest.raises(UserError, match=r"has the value 7; this model knows 0 \.\.\. 2, and 255 for pixels without"):
        member({"label_map": bad})
    with pytest.raises(UserError, match="one number for every pixel, "):
        member({"label_map": good[:, None]})
    with pytest.raises(UserError, match=r"'label_map' is 14 x 8 pixels, .* multiples of the autoencoder's factor 4"):
        member({"label_map": good[:, :14]})
    with pytest.raises(UserError, match=r"different shapes, \(14, 8\) and \(16, 8\)"):
        member({"label_map": [good[0], good[1, :14]]})
    with pytest.raises(UserError, match="takes tensors, one for each picture, got a str"):
        member({"label_map": ["map.png"]})
    with pytest.raises(ValueError):
        SemanticMapConfig(channels=0)

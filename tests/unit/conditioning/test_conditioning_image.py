"""Another picture through the first stage."""

from __future__ import annotations

import pytest
import torch
from tests.condition_toys import EVERYTHING, Squares, Words, draw

from calotype.autoencoder.base import PixelSpace
from calotype.conditioning.conditioning_image import ConditioningImageConfig
from calotype.errors import UserError

IMAGE = EVERYTHING["conditioning_image"]


def test_it_is_the_first_stages_latent_or_the_picture_itself() -> None:
    latents = Squares()
    member = ConditioningImageConfig().fit(Words(), latents)
    assert torch.equal(member({"conditioning_image": IMAGE}).spatial, latents.encode(IMAGE))
    plain = ConditioningImageConfig().fit(Words(), PixelSpace())
    assert torch.equal(plain({"conditioning_image": IMAGE}).spatial, IMAGE)


def test_what_is_no_such_picture_is_refused() -> None:
    member = ConditioningImageConfig().fit(Words(), Squares())
    with pytest.raises(
        UserError, match=r"'conditioning_image' must be RGB pictures, \(3, H, W\) each, got \(4, 16, 16\)"
    ):
        member({"conditioning_image": draw(2, 4, 16, 16)})
    with pytest.raises(UserError, match="'conditioning_image' is 16 x 10 pixels"):
        member({"conditioning_image": IMAGE[..., :10]})
    with pytest.raises(UserError, match="got none"):
        member({"conditioning_image": []})

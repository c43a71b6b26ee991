"""Pictures with holes: the two published conventions restated, the hole's own pixels, what is refused."""

from __future__ import annotations

import pytest
import torch
from tests.condition_toys import EVERYTHING, Squares, Words, draw
from torch.nn import functional as F

from calotype.conditioning.masked_image import LDM_INPAINTING, SD_INPAINTING, MaskedImage, MaskedImageConfig
from calotype.errors import UserError
from calotype.nn.published import PUBLISHED
from calotype.registry import from_plain, to_plain

IMAGE, HOLE = EVERYTHING["image"], EVERYTHING["hole"]
WISHES = {"image": IMAGE, "hole": HOLE}


def build(config: MaskedImageConfig, latents: Squares) -> MaskedImage:
    return config.fit(Words(), latents)


def test_the_released_latent_diffusion_convention() -> None:
    """scripts/inpaint.py line by line: bytes to [0, 1], (1 - mask) * image, all of it to [-1, 1], encode, resize."""
    latents = Squares(channels=3)
    image, mask = (IMAGE + 1) / 2, HOLE.float()
    masked_image = (1 - mask) * image
    batch = {k: v * 2.0 - 1.0 for k, v in {"mask": mask, "masked_image": masked_image}.items()}
    c = latents.encode(batch["masked_image"])
    cc = F.interpolate(batch["mask"], size=c.shape[-2:])
    wanted = torch.cat((c, cc), dim=1)
    torch.testing.assert_close(build(LDM_INPAINTING, latents)(WISHES).spatial, wanted, rtol=1e-5, atol=1e-5)
    assert wanted.shape[1] + 3 == PUBLISHED["ldm-inpainting-big"].in_channels == 7


def test_the_stable_diffusion_convention() -> None:
    """prepare_mask_and_masked_image: image in [-1, 1] times (mask < 0.5); then latent, mask, masked latent."""
    latents = Squares(channels=4)
    mask = HOLE.float()
    masked = latents.encode(IMAGE * (mask < 0.5))
    small = F.interpolate(mask, size=masked.shape[-2:])
    wanted = torch.cat([small, masked], 1)
    torch.testing.assert_close(build(SD_INPAINTING, latents)(WISHES).spatial, wanted)
    assert wanted.shape[1] + 4 == PUBLISHED["stable-diffusion-1-inpainting"].in_channels == 9


@pytest.mark.parametrize("config", [LDM_INPAINTING, SD_INPAINTING, MaskedImageConfig()])
def test_what_lies_in_the_hole_is_not_looked_at(config: MaskedImageConfig) -> None:
    member = build(config, Squares())
    other = torch.where(HOLE, torch.nan, IMAGE)
    assert torch.equal(member({"image": other, "hole": HOLE}).spatial, member(WISHES).spatial)
    assert from_plain(to_plain(config)) == config


def test_no_thin_line_is_lost_but_where_it_was_published_so() -> None:
    hole = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    hole[..., 6, :] = True
    wishes = {"image": IMAGE[:1], "hole": hole}
    ours, theirs = (build(c, Squares())(wishes).spatial[0, -1] for c in (MaskedImageConfig(), LDM_INPAINTING))
    assert ours[:, 0].tolist() == [-1, 1, -1, -1] and theirs.unique().tolist() == [-1]


@pytest.mark.parametrize("config", [LDM_INPAINTING, SD_INPAINTING])
def test_null_is_a_hole_everywhere(config: MaskedImageConfig) -> None:
    member = build(config, Squares())
    null, told = member.null(2).spatial, member({"image": IMAGE, "hole": torch.ones_like(HOLE)}).spatial
    place = 0 if config.map_first else -1
    assert (null[:, place] == 1).all() and (told[:, place] == 1).all()
    assert null.count_nonzero() == 2 and null.shape == (2, 5, 1, 1)


def test_what_is_no_picture_with_a_hole_is_refused() -> None:
    member = build(MaskedImageConfig(), Squares())
    with pytest.raises(UserError, match=r"'hole' must be bool \(1, 16, 16\), .* got torch.bool \(1, 8, 8\) for 4 of 4"):
        member({"image": IMAGE, "hole": HOLE[..., ::2, ::2]})
    with pytest.raises(UserError, match=r"got torch\.float32"):
        member({"image": IMAGE, "hole": HOLE.float()})
    with pytest.raises(UserError, match="for 3 of 4 pictures"):
        member({"image": IMAGE, "hole": HOLE[:3]})
    with pytest.raises(UserError, match="'image' must be RGB pictures"):
        member({"image": draw(4, 1, 16, 16), "hole": HOLE})
    with pytest.raises(UserError, match="'image' is 14 x 16 pixels"):
        member({"image": IMAGE[:, :, :14], "hole": HOLE[:, :, :14]})


@pytest.mark.parametrize("wrong", [{"fill": -2.0}, {"values": (1.0, 1.0)}, {"drop": -0.1}])
def test_conventions_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        MaskedImageConfig(**wrong)  # type: ignore[arg-type]

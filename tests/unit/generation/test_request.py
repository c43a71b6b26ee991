"""Pictures to begin with, to complete, to enlarge: of any size, with what is known untouched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.condition_toys import draw
from tests.generation_toys import PLAN, toy
from torch import Tensor

from calotype.data.images import to_tensor
from calotype.diffusion.samplers import DDPM
from calotype.generation.generate import Plan
from calotype.generation.images import to_uint8
from calotype.generation.request import Request, each, emptied, fulfil
from calotype.layout import Box, Layout
from calotype.model import LatentDiffusion

HEIGHT, WIDTH = 13, 22


def finished(model: LatentDiffusion, request: Request, plan: Plan = PLAN, seed: int = 3) -> Tensor:
    return torch.cat([u.image for u in fulfil(model, request, plan, seed=seed) if u.image is not None])


def bytes_of(height: int = HEIGHT, width: int = WIDTH) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def with_hole(n: int = 2, **more: Any) -> Request:
    hole = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    hole[:, 5:, 12:] = True
    return Request(n, HEIGHT, WIDTH, {"image": [to_tensor(bytes_of())] * n, "hole": [hole] * n}, **more)


def test_every_byte_survives() -> None:
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(to_uint8(to_tensor(values)).permute(1, 2, 0).numpy(), values)


@pytest.mark.parametrize("wishes", [("masked_image",), (), ("text",)], ids=["trained", "plain", "captions"])
@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize("renoised", [True, False])
def test_known_pixels_come_back_bit_for_bit(wishes: tuple[str, ...], pixels: bool, renoised: bool) -> None:
    request, model = with_hole(renoised=renoised), toy(*wishes, pixels=pixels)
    images = finished(model, request)
    assert images.shape == (2, 3, HEIGHT, WIDTH)
    hole = request.wishes["hole"][0][0].numpy()
    for image in images:
        painted = to_uint8(image).permute(1, 2, 0).numpy()
        assert np.array_equal(painted[~hole], bytes_of()[~hole])
        assert not np.array_equal(painted[hole], bytes_of()[hole])
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize("wishes", [("masked_image",), ()])
def test_what_was_in_the_hole_has_no_influence(wishes: tuple[str, ...]) -> None:
    """Nor what of it the mirror at the edge would show."""
    request, model = with_hole(1), toy(*wishes)
    hole = request.wishes["hole"][0]
    other = request.wishes["image"][0].masked_fill(hole, 0.9)
    changed = replace(request, wishes={"image": [other], "hole": [hole]})
    assert torch.equal(finished(model, request), finished(model, changed))


def test_what_is_known_is_kept_on_the_way() -> None:
    """The last prediction shows it, before anything is pasted."""
    request, model = with_hole(1), toy(pixels=True)
    *_, last = fulfil(model, request, PLAN, seed=0)
    hole = request.wishes["hole"][0]
    known = ~hole.expand(3, -1, -1)
    assert torch.equal(last.x_0[0, :, :HEIGHT, :WIDTH][known], request.wishes["image"][0][known])


def test_fresh_noise_is_other_noise() -> None:
    model = toy()
    kept, fresh, again = (
        finished(model, with_hole(3, renoised=r), replace(PLAN, sampler=DDPM(), batch=b))
        for r, b in ((False, 3), (True, 3), (True, 1))
    )
    assert not torch.equal(kept, fresh)
    assert (fresh - again).abs().max() < 1e-5, "in any batch the same"


def test_a_hole_everywhere_is_sampling() -> None:
    hole = torch.ones(1, 16, 16, dtype=torch.bool)
    request = Request(1, 16, 16, {"image": [draw(3, 16, 16)], "hole": [hole]})
    assert torch.equal(finished(toy(), request), finished(toy(), Request(1, 16, 16)))
    assert torch.equal(emptied(draw(3, 16, 16), hole), torch.zeros(3, 16, 16))


@pytest.mark.parametrize("pixels", [True, False])
def test_strength_0_is_the_round_trip(pixels: bool) -> None:
    model, x = toy(pixels=pixels), to_tensor(bytes_of())
    (image,) = finished(model, Request(1, HEIGHT, WIDTH, start=x, strength=0.0))
    unit = 2 if pixels else 8
    padded = np.pad(bytes_of(), ((0, -HEIGHT % unit), (0, -WIDTH % unit), (0, 0)), "reflect")
    with torch.no_grad():
        wanted = model.decode(model.autoencoder.encode(to_tensor(padded)[None])).clamp(-1, 1)
    assert torch.equal(image, wanted[0, :, :HEIGHT, :WIDTH])


WISHES: dict[str, dict[str, Any]] = {
    "low_resolution": {"low_resolution": draw(3, 5, 7)},
    "semantic_map": {"label_map": torch.zeros(20, 28, dtype=torch.uint8)},
    "conditioning_image": {"conditioning_image": draw(3, 20, 28)},
    "image_embedding": {"reference": draw(3, 16, 16)},
}


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("pixels", [True, False])
def test_wishes_that_are_pictures_have_any_size(name: str, pixels: bool) -> None:
    model = toy(name, pixels=pixels)
    request = Request(2, 20, 28, {key: [value] * 2 for key, value in WISHES[name].items()})
    images = finished(model, request)
    assert images.shape == (2, 3, 20, 28)
    other = Request(2, 20, 28, {key: [value * 0 + 1] * 2 for key, value in WISHES[name].items()})
    assert not torch.equal(images, finished(model, other)), "it is listened to"


def test_pictures_with_wishes_are_seen_in_windows() -> None:
    model = toy("conditioning_image", "text")
    wishes = {"conditioning_image": [draw(3, 20, 28)], "caption": ["a red heart"]}
    request = Request(1, 20, 28, wishes)
    whole, windowed = (finished(model, request, replace(PLAN, window=w)) for w in (0, 16))
    assert whole.shape == windowed.shape and not torch.equal(whole, windowed)
    assert torch.equal(whole, finished(model, request, replace(PLAN, window=32)))


@pytest.mark.parametrize("kinds", [("boxes", "box_map"), ("box_map",)])
def test_a_layout_is_painted_for_models_that_read_it_so(kinds: tuple[str, ...]) -> None:
    """At the size of the picture, which the model cannot know of."""
    model, layout = toy(*kinds), Layout((Box(1, 0.0, 0.0, 0.5, 1.0),))
    request = Request(2, 20, 30, {"layout": [layout] * 2})
    heard = request.heard(model)
    assert set(heard) == {"box_map", *(("layout",) if "boxes" in kinds else ())}
    assert torch.equal(heard["box_map"][0], torch.from_numpy(layout.painted(20, 30)))
    assert model.conditioner.names["layout"] == ("hat", "shoe")
    (update,) = (u for u in fulfil(model, request, PLAN, seed=0) if u.image is not None)
    assert update.image.shape == (2, 3, 20, 30)


def test_each_computes_once_for_one_object() -> None:
    a, b, calls = [1], [1], []
    assert each(lambda x, y: calls.append(1) or (*x, *y), [a, a, b], [b, b, b]) == [(1, 1)] * 3
    assert len(calls) == 2

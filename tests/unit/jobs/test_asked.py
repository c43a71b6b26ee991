"""What a person asks for, read from files; and what is said where that cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.generation_toys import TIMES, toy

from calotype.conditioning.low_resolution import LowResolutionConfig
from calotype.errors import UserError
from calotype.generation.request import Request
from calotype.jobs.asked import (
    VERBS,
    Asked,
    asking,
    check_kind,
    hole,
    picture,
    request_of,
    training,
    words_of,
)
from calotype.model import LatentDiffusion
from calotype.recipes import get

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, size: tuple[int, int] = (20, 12), mode: str = "RGB", colour: Any = 0, **more: Any) -> Path:
        Image.new(mode, size, colour).save(tmp_path / name, **more)
        return tmp_path / name

    return write


def requested(asked: Asked, model: LatentDiffusion, n: int = 3) -> Request:
    check_kind(model, asked)
    return request_of(asked, model, words_of(asked, model), n, seed=0)


def test_words_are_repeated_in_turn(tmp_path: Path) -> None:
    boxes = [[{"class": c, "box": [0, 0, 0.5, 1]}] for c in ("hat", "SHOE")]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    asked = Asked(captions=["a", "b"], classes=["people"], layout=tmp_path / "boxes.json")
    request = requested(asked, toy("text", "class_label", "layout"))
    assert request.wishes["caption"] == ["a", "b", "a"] and request.wishes["label"] == ["people"] * 3
    assert [layout.boxes[0].label for layout in request.wishes["layout"]] == [0, 1, 0]
    assert (request.height, request.width) == (16, 16)


def test_words_are_all_of_them_however_few_pictures_are_wished_for() -> None:
    asked, model = Asked(captions=["a", "b"], classes=["people"]), toy("text", "class_label")
    assert words_of(asked, model) == {"caption": ["a", "b"], "label": ["people"]}
    assert words_of(Asked(), model) == {}
    assert request_of(asked, model, words_of(asked, model), 1, 0).wishes == {"caption": ["a"], "label": ["people"]}


def test_files_say_the_size(write: Write) -> None:
    image, mask = write("x.png"), write("m.png", mode="L", colour=255)
    for asked, model in (
        (Asked(image=image, mask=mask), toy()),
        (Asked(start=image), toy()),
        (Asked(label_map=write("l.png", mode="L")), toy("semantic_map")),
        (Asked(conditioning_image=image), toy("conditioning_image")),
        (Asked(low_res=write("s.png", (5, 3))), toy("low_resolution")),
        (Asked(reference=image, height=16, width=24), toy("image_embedding")),
    ):
        request = requested(asked, model)
        wanted = (16, 24) if asked.reference else (12, 20)
        assert (request.height, request.width) == wanted
        assert all(values[0] is values[-1] for values in request.wishes.values()), "one object, however many pictures"


def test_noise_is_laid_over_a_low_resolution_picture(write: Write) -> None:
    small = write("s.png", (4, 4), colour=(0, 128, 255))
    model = toy("low_resolution", times=LowResolutionConfig(times=4, noise=True, width=6))
    still, noisy = requested(Asked(low_res=small), model), requested(Asked(low_res=small, noise_level=0.6), model)
    assert still.wishes["noise_level"] == [0.0] * 3 and noisy.wishes["noise_level"] == [0.6] * 3
    a, b, _ = noisy.wishes["low_resolution"]
    assert not torch.equal(a, b) and torch.equal(still.wishes["low_resolution"][0], picture(small))
    assert 0.4 < float((a - 0.8 * picture(small)).std()) < 0.8
    told = "not trained with --noise-level: it takes --low-res, .* inpaint and upscale, without --noise-level$"
    with pytest.raises(UserError, match=told):  # and no recipe is named, as none trains with noise
        requested(Asked(low_res=small, noise_level=0.6), toy("low_resolution", times=TIMES))


def test_white_is_the_hole(write: Write) -> None:
    grey = Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8))
    for mode in ("L", "RGB", "P", "RGBA", "1"):
        path = write(f"{mode}.png")
        (grey.convert("RGB") if mode == "RGBA" else grey).convert(mode, dither=Image.Dither.NONE).save(path)
        assert hole(path)[0, 0].tolist() == [False, False, True, True]
    with pytest.raises(UserError, match="is transparent where a mask says what is to be painted"):
        hole(write("t.png", mode="LA", colour=(0, 0)))
    with pytest.raises(UserError, match="has no white pixel, so there is nothing to paint"):
        hole(write("b.png", mode="L", colour=100))


def test_pictures_are_upright(write: Write) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert picture(write("x.png", exif=exif)).shape == (3, 20, 12)


def test_a_note_of_what_was_asked() -> None:
    asked = Asked(captions=["a"], start=Path("x.png"), height=8, width=8)
    assert asked.note() == {"start": "x.png", "strength": 0.75, "height": 8, "width": 8}
    assert Asked().note() == {}
    assert json.dumps(Asked(classifier=Path("c"), image=Path("i"), mask=Path("m")).note())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"height": 8}, "--height needs --width; add it"),
        ({"width": 8}, "--width needs --height; add it"),
        ({"mask": Path("m.png")}, "--mask needs --image; add it"),
        ({"image": Path("m.png")}, "--image needs --mask, which says where"),
        ({"noise_level": 0.5}, "add --low-res"),
        ({"noise_level": 1.5, "low_res": Path("x")}, r"--noise-level must lie in \[0, 1\], got 1.5"),
        ({"strength": float("nan")}, r"--strength must lie in \[0, 1\], got nan"),
    ],
)
def test_one_without_the_other(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Asked(**asked)


def test_the_wrong_kind_of_model_says_what_fits(write: Write) -> None:
    small = write("s.png")
    told = (
        r"not trained with --low-res: it takes --caption, --layout, which fits the verbs sample, edit, inpaint "
        r"and layout, without --low-res; one that takes it is trained by `calotype train diffusion --recipe small-\S+`"
    )
    with pytest.raises(UserError, match=told):
        requested(Asked(low_res=small), toy("text", "layout"))
    with pytest.raises(UserError, match=r"it takes no condition at all, .* --recipe small-semantic`"):
        requested(Asked(label_map=small), toy())
    with pytest.raises(
        UserError, match="always had --label-map in training and cannot do without; add --label-map PNG"
    ):
        requested(Asked(), toy("semantic_map"))
    with pytest.raises(UserError, match=r"had --image and --mask in training .* without; add --image IMAGE --mask PNG"):
        requested(Asked(), toy("masked_image"))
    with pytest.raises(
        UserError, match=r"with --class: it takes --layout, which fits the verbs .* inpaint and layout,"
    ):
        requested(Asked(classes=["x"]), toy("box_map"))
    assert requested(Asked(classes=["x"], classifier=Path("c")), toy()).wishes == {"label": ["x"] * 3}


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("small-captions", "sample runs/x"),
        ("small-layout", "layout runs/x BOXES.json"),
        ("small-semantic", "synthesize runs/x LABELMAP"),
        ("small-inpainting", "inpaint runs/x IMAGE MASK"),
        ("small-super-resolution", "upscale runs/x IMAGE"),
        ("small-image-to-image", "sample runs/x --conditioning-image IMAGE"),
        ("small-variations", "sample runs/x --reference IMAGE"),
        ("ldm-celebahq", "sample runs/x"),
    ],
)
def test_how_a_model_is_asked(recipe: str, words: str) -> None:
    assert " ".join(asking(Path("runs/x"), get(recipe).build().conditioners.values())) == words


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("low_resolution", "small-super-resolution` (or small-blind-super-resolution, ldm-super-resolution)"),
        ("caption", "small-captions` (or emoji-diffusion, pixel-emoji)"),
        ("label", "small-captions` (or emoji-diffusion, pixel-emoji)"),
        ("layout", "small-layout` (or ldm-layout-coco, ldm-layout-openimages)"),
        ("reference", "small-variations`"),
    ],
)
def test_the_plainest_recipe_is_recommended_first(entry: str, told: str) -> None:
    assert training(entry) == f"; one that takes it is trained by `calotype train diffusion --recipe {told}"


def test_a_recipe_is_recommended_for_every_verb() -> None:
    assert all(training(entry) for entry in VERBS)
    assert training("noise_level") == ""


def test_files_that_do_not_fit(write: Write, tmp_path: Path) -> None:
    image = write("x.png")
    with pytest.raises(UserError, match=r"differs in size \(the picture: 20 x 12, the mask: 12 x 12 pixels\)"):
        requested(Asked(image=image, mask=write("m.png", (12, 12), "L", 255)), toy())
    with pytest.raises(UserError, match=r"the picture to begin with: 20 x 12, --height and --width: 16 x 16 pixels"):
        requested(Asked(start=image, height=16, width=16), toy())
    with pytest.raises(UserError, match="height 20 is no multiple of the 8 pixels"):
        requested(Asked(height=20, width=16), toy())
    with pytest.raises(UserError, match="is 6000 x 6000, more than 17 megapixels"):
        requested(Asked(start=write("big.png", (6000, 6000), "1")), toy())
    with pytest.raises(UserError, match=r"is 1200 x 1200, more than 1 megapixels"):
        requested(Asked(low_res=write("large.png", (1200, 1200), "1")), toy("low_resolution"))
    with pytest.raises(UserError, match=r"there is no file .*none.png; name one"):
        requested(Asked(start=tmp_path / "none.png"), toy())
    with pytest.raises(UserError, match="name one, not a folder"):
        requested(Asked(reference=tmp_path), toy("image_embedding"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"text.png is no PNG.* picture"):
        requested(Asked(start=tmp_path / "text.png"), toy())

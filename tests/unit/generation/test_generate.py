"""Sampling larger pictures, and from pictures on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.condition_toys import draw
from tests.generation_toys import PLAN, SIDE, toy
from torch import Tensor

from calotype.autoencoder import tiling
from calotype.errors import UserError
from calotype.generation import generate as module
from calotype.generation.generate import WHOLE, Plan, Start, generate
from calotype.model import LatentDiffusion
from calotype.registry import from_plain, to_plain


def finished(model: LatentDiffusion, plan: Plan = PLAN, n: int = 1, **more: object) -> Tensor:
    updates = generate(model, {}, plan, n=n, seed=3, **more)  # type: ignore[arg-type]
    return torch.cat([u.image for u in updates if u.image is not None])


def test_a_window_as_large_as_the_picture_changes_nothing() -> None:
    model = toy()
    plain = finished(model)
    assert torch.equal(plain, finished(model, replace(PLAN, window=SIDE)))
    assert torch.equal(plain, finished(model, replace(PLAN, window=1024)))


def test_windows_are_switched_on_beyond_a_size() -> None:
    model = toy()
    assert PLAN.windows(model, 4 * SIDE, 4 * SIDE) is None and WHOLE == 16
    assert PLAN.windows(model, 4 * SIDE, 5 * SIDE) == SIDE
    assert replace(PLAN, window=0).windows(model, 40 * SIDE, 40 * SIDE) is None
    assert replace(PLAN, window=24).windows(model, SIDE, 32) == 24
    with pytest.raises(UserError, match=r"a window of 20 pixels is no multiple of the 8 .*; take 16 or 24, best 16"):
        finished(model, replace(PLAN, window=20))
    with pytest.raises(ValueError, match="window must lie in"):
        replace(PLAN, window=-8)
    size = {"height": 24, "width": 40}
    whole, windowed = (finished(model, replace(PLAN, window=w), **size) for w in (0, 16))
    assert whole.shape == windowed.shape == (1, 3, 24, 40) and not torch.equal(whole, windowed)


def test_a_plan_without_windows_can_be_read() -> None:
    plain = to_plain(PLAN)
    assert plain.pop("window") is None
    assert from_plain(plain, Plan) == PLAN


def test_of_larger_pictures_fewer_go_together() -> None:
    model, plan = toy(), replace(PLAN, steps=1, batch=8)
    sizes = [
        {len(u.x_0) for u in generate(model, {}, plan, n=8, seed=0, height=side, width=side)} for side in (8, 16, 32)
    ]
    assert sizes == [{8}, {8}, {2}]


def test_what_does_not_fit_is_decoded_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = toy(), []
    untiled = finished(model, n=2, height=32, width=40)

    def decode(autoencoder: object, z: Tensor) -> Tensor:
        calls.append(len(z))
        return tiling.decode(model.autoencoder, z, tile=16, memory=0)

    monkeypatch.setattr(module.tiling, "fits", lambda *_: False)
    monkeypatch.setattr(module, "tiling", type("T", (), {"fits": tiling.fits, "decode": staticmethod(decode)}))
    tiled = finished(model, n=2, height=32, width=40)
    assert calls == [1, 1] and (tiled - untiled).abs().max() < 1e-4


def test_a_start_gives_the_size_of_its_steps() -> None:
    model = toy()
    z = model.autoencoder.encode(draw(1, 3, SIDE, SIDE)).detach()
    plan = replace(PLAN, steps=8)
    for strength, steps in ((0.0, 0), (0.05, 0), (0.5, 4), (1.0, 8)):
        updates = list(generate(model, {}, plan, n=2, seed=0, start=Start(z, strength)))
        assert [u.step for u in updates] == [*range(1, steps + 1)] or [u.step for u in updates] == [0] == [steps]
        assert updates[-1].image is not None and updates[-1].image.shape == (2, 3, SIDE, SIDE)
    nothing = finished(model, plan, n=2, start=Start(z, 0.0))
    assert torch.equal(nothing, model.decode(z.expand(2, -1, -1, -1)).clamp(-1, 1).detach())
    near, far = (finished(model, plan, start=Start(z, s)) for s in (0.25, 1.0))
    assert (near - nothing[:1]).abs().mean() < (far - nothing[:1]).abs().mean()


def test_samples_of_a_start_do_not_depend_on_the_batch() -> None:
    model = toy()
    start = Start(draw(1, 2, 4, 4), 0.5)
    whole, parts = (finished(model, replace(PLAN, batch=b), n=3, start=start) for b in (3, 2))
    assert (whole - parts).abs().max() < 1e-5 and not torch.equal(whole[0], whole[1])


def test_a_start_that_does_not_fit() -> None:
    model = toy()
    with pytest.raises(ValueError, match="cannot begin with latents of"):
        finished(model, start=Start(draw(1, 2, 4, 8), 0.5))
    with pytest.raises(ValueError, match="cannot begin with latents of"):
        finished(model, n=3, start=Start(draw(2, 2, 4, 4), 0.5))
    with pytest.raises(UserError, match=r"strength must lie in \[0, 1\], got 1.5"):
        finished(model, start=Start(draw(1, 2, 4, 4), 1.5))

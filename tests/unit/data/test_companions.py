"""Entries of a batch beside the picture: in step with it, repeatable, and the same from a latent cache."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.data.test_view import COLOURS, SOURCE

from calotype.data.companions import LowResolutions, NoiseLevels, Offer, companions_of, random_at
from calotype.data.degradations import BSR, Bicubic
from calotype.data.latent_cache import LatentCache, LatentLoader
from calotype.data.loader import Loader, pictures
from calotype.data.masks import Boxes, Scaled
from calotype.data.view import Augment, Cut, View
from calotype.layout import Layout

ALL = companions_of(SOURCE, BSR(4), 0.5, Scaled(Boxes(), 256))
LIKE = {
    *("image", "reference", "layout", "box_map", "label_map"),
    *("conditioning_image", "low_resolution", "noise_level", "hole"),
}


def test_every_kind_is_offered_where_the_source_has_it() -> None:
    assert set(ALL) == LIKE
    assert set(companions_of(SOURCE)) == LIKE - {"low_resolution", "noise_level", "hole"}
    offer = Offer(SOURCE, ALL)
    assert set(offer.entries) == LIKE | {"caption", "label"} and offer.objects == SOURCE.objects
    assert set(offer.read_by(("hole", "caption"))) == {"hole"}


def test_shapes_and_types() -> None:
    batch = next(pictures(SOURCE, 32, 4, companions=ALL))
    shapes = {name: tuple(v.shape) for name, v in batch.items() if isinstance(v, torch.Tensor)}
    square = (4, 3, 32, 32)
    assert shapes == {
        "index": (4,),
        "label": (4,),
        "image": square,
        "reference": square,
        "conditioning_image": square,
        "label_map": (4, 32, 32),
        "box_map": (4, 32, 32),
        "low_resolution": (4, 3, 8, 8),
        "noise_level": (4,),
        "hole": (4, 1, 32, 32),
    }
    assert batch["hole"].dtype == torch.bool and batch["label_map"].dtype == torch.uint8
    assert all(isinstance(layout, Layout) for layout in batch["layout"])
    assert batch["hole"].any() and not batch["hole"].all()


@pytest.mark.parametrize("start", [0, 3])
def test_batches_repeat_bit_for_bit_and_resume(start: int) -> None:
    def take(first: int, n: int) -> list[dict[str, object]]:
        augment = Augment(crop=True, flip=True, zoom=0.6)
        stream = Loader(SOURCE, 32, 4, 7, augment, companions=ALL).batches(first)
        out = [dict(next(stream)) for _ in range(n)]
        stream.close()  # type: ignore[attr-defined]  # a generator
        return out

    for a, b in zip(take(0, 6)[start:], take(start, 6 - start), strict=True):
        assert a.keys() == b.keys() > LIKE
        for name in a:
            same = torch.equal(a[name], b[name]) if isinstance(a[name], torch.Tensor) else a[name] == b[name]  # type: ignore[arg-type]
            assert same, name


def test_what_is_random_changes_from_epoch_to_epoch() -> None:
    stream = Loader(SOURCE, 32, len(SOURCE), 7, companions=ALL).batches()
    first, second = (next(stream) for _ in range(2))
    order = [first["index"].argsort(), second["index"].argsort()]
    assert torch.equal(first["image"][order[0]], second["image"][order[1]])
    for name in ("hole", "noise_level", "low_resolution"):
        assert not torch.equal(first[name][order[0]], second[name][order[1]]), name


def test_the_latent_cache_shows_the_pictures_that_its_latents_are_of(tmp_path: Path) -> None:
    """Latents here are the pictures themselves, so every entry can be held against them, mirrored copies included."""
    cache = LatentCache.open(
        tmp_path / "c", SOURCE, lambda x: (x, torch.zeros_like(x)), side=32, autoencoder="identity", flips=True
    )
    batches = LatentLoader(cache, SOURCE, 8, 3, companions=ALL, side=32).batches()
    mirrored = 0
    plain = {int(b["index"][0]): b["image"][0] for b in pictures(SOURCE, 32, 1)}
    for _ in range(4):
        batch = next(batches)
        torch.testing.assert_close(batch["image"], batch["latent_mean"], atol=1e-3, rtol=0)
        torch.testing.assert_close(batch["conditioning_image"], -batch["latent_mean"], atol=0.03, rtol=0)
        painted = torch.tensor(COLOURS)[batch["label_map"].long()].movedim(-1, 1) / 127.5 - 1
        assert float(((painted - batch["latent_mean"]).abs().amax(1) < 0.5).double().mean()) > 0.75
        mirrored += sum(not torch.equal(x, plain[int(i)]) for i, x in zip(batch["index"], batch["image"], strict=True))
    assert 8 <= mirrored <= 24
    batches.close()  # type: ignore[attr-defined]  # a generator


def test_without_noise_low_resolution_is_the_degradation_alone() -> None:
    cut, random = Cut.square(SOURCE[0], 32, View()), random_at(0, 0, 0)
    low = LowResolutions(Bicubic(4)).of(cut, random)
    small = Bicubic(4)(np.ascontiguousarray(cut.pixels), np.random.default_rng(0))
    np.testing.assert_allclose(low, small / 127.5 - 1, atol=1e-6)


def test_noise_has_the_level_that_is_told_and_keeps_the_variance() -> None:
    """sqrt(1 - s^2) x + s eps, with s from `NoiseLevels` at the same position."""
    cut = Cut.square(SOURCE[0], 64, View())
    clean = LowResolutions(Bicubic(2)).of(cut, random_at(0, 0, 0))
    for epoch in range(5):
        random = random_at(0, 0, epoch)
        s, noisy = NoiseLevels(0.8).of(cut, random), LowResolutions(Bicubic(2), 0.8).of(cut, random)
        eps = (noisy - (1 - s * s) ** 0.5 * clean) / s
        assert 0 < s < 0.8 and abs(eps.std() - 1) < 0.1 and abs(eps.mean()) < 0.1

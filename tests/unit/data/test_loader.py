"""Batches: repeatable by step, exact in size, robust against bad pictures; the latent cache is what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from calotype.data.folder import FolderSource, open_source
from calotype.data.latent_cache import LatentCache, LatentLoader
from calotype.data.loader import Augment, Loader, ahead, pictures
from calotype.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(23):
        Image.fromarray(rng.integers(0, 256, (20 + k, 24, 3), dtype=np.uint8)).save(tmp_path / f"{k:02d}.png")
    return tmp_path


def take(loader: Loader | LatentLoader, start: int, n: int) -> list[dict[str, object]]:
    stream = loader.batches(start)
    out = [dict(next(stream)) for _ in range(n)]
    stream.close()
    return out


def test_batches_are_a_function_of_the_step(folder: Path) -> None:
    def make() -> Loader:
        return Loader(FolderSource(folder), 16, 7, 3, Augment(crop=True, flip=True))

    whole, resumed = take(make(), 0, 12), take(make(), 8, 4)
    for a, b in zip(whole[8:], resumed, strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["index"], b["index"])
    assert whole[0]["image"].shape == (7, 3, 16, 16) and whole[0]["image"].dtype == torch.float32
    assert -1 <= float(whole[0]["image"].min()) < float(whole[0]["image"].max()) <= 1


def test_a_sample_is_augmented_alike_in_any_batch(folder: Path) -> None:
    a, b = (Loader(FolderSource(folder), 16, size, 3, Augment(True, True)) for size in (4, 6))
    left = torch.cat([x["image"] for x in take(a, 0, 6)])
    right = torch.cat([x["image"] for x in take(b, 0, 4)])
    assert torch.equal(left, right)


def test_every_epoch_shows_every_picture_and_mirrors_half(folder: Path) -> None:
    loader = Loader(FolderSource(folder), 16, 23, 0, Augment(flip=True))
    plain = torch.cat([b["image"] for b in pictures(FolderSource(folder), 16)])
    mirrored = 0
    for batch in take(loader, 0, 8):
        assert sorted(batch["index"].tolist()) == list(range(23))
        for i, x in zip(batch["index"], batch["image"], strict=True):
            same, other = torch.equal(x, plain[i]), torch.equal(x, plain[i].flip(-1))
            assert same or other
            mirrored += other
    assert 0.35 < mirrored / (8 * 23) < 0.65


def test_few_pictures_fill_a_large_batch(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "only.png")
    (batch,) = take(Loader(FolderSource(tmp_path), 8, 16), 0, 1)
    assert batch["image"].shape == (16, 3, 8, 8)


def test_a_bad_picture_is_replaced_and_counted(folder: Path) -> None:
    (folder / "05.png").write_bytes(b"damaged")
    loader = Loader(FolderSource(folder), 16, 23)
    (batch,) = take(loader, 0, 1)
    assert list(loader.bad.messages) == [5] and "05.png" in loader.bad.messages[5]
    assert sorted(batch["index"].tolist()) == sorted([*(k for k in range(23) if k != 5), 6])
    assert len(next(pictures(FolderSource(folder), 16))["index"]) == 22


def test_too_many_bad_pictures_stop_the_run(folder: Path) -> None:
    for k in range(3):
        (folder / f"{k:02d}.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match="3 of 23 pictures cannot be used, more than 10%"):
        take(Loader(FolderSource(folder), 16, 23), 0, 1)


def test_labels_and_captions_belong_to_their_picture() -> None:
    source = open_source("embedded:fluent-people/val")
    (batch,) = take(Loader(source, 32, 50), 0, 1)
    for i, caption, label in zip(batch["index"].tolist(), batch["caption"], batch["label"].tolist(), strict=True):
        assert (caption, label) == (source.captions()[i], source.labels()[i])


def test_ahead_raises_in_place_and_ends_its_thread() -> None:
    import threading

    def make(step: int) -> int:
        if step == 3:
            raise UserError("step three")
        return step

    stream = ahead(make, 0)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="step three"):
        next(stream)
    assert not any(t.name == "loader" for t in threading.enumerate())


def encode(image: Tensor) -> tuple[Tensor, Tensor]:
    small = torch.nn.functional.avg_pool2d(image, 4)
    return small, torch.full_like(small, 0.25)


def test_latent_cache_round_trip_and_validity(folder: Path, tmp_path: Path) -> None:
    source, cache = FolderSource(folder), tmp_path / "cache"
    calls: list[int] = []

    def counting(image: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(image))
        return encode(image)

    def load(autoencoder: str = "a", flips: bool = True) -> LatentCache:
        return LatentCache.open(cache, source, counting, side=16, autoencoder=autoencoder, flips=flips)

    first = load()
    images = torch.cat([b["image"] for b in pictures(source, 16)])
    torch.testing.assert_close(first.mean[0].float(), encode(images)[0], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(first.mean[1].float(), encode(images.flip(-1))[0], atol=1e-3, rtol=1e-3)
    assert sum(calls) == 46
    again = load()
    assert sum(calls) == 46 and torch.equal(again.mean, first.mean)
    load(autoencoder="another")
    assert sum(calls) == 92
    (cache / "latents.safetensors").write_bytes(b"damage")
    load(autoencoder="another")
    assert sum(calls) == 138
    Image.new("RGB", (9, 9)).save(folder / "00.png")
    load(autoencoder="another")
    assert sum(calls) == 184


def test_latent_batches_follow_the_same_order(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder)
    cache = LatentCache.open(tmp_path / "c", source, encode, side=16, autoencoder="a", flips=True)
    latents, images = LatentLoader(cache, source, 9, 4), Loader(source, 16, 9, 4)
    for a, b in zip(take(latents, 2, 5), take(images, 2, 5), strict=True):
        assert torch.equal(a["index"], b["index"])
        assert a["latent_mean"].shape == a["latent_std"].shape == (9, 3, 4, 4)
    whole, resumed = take(latents, 0, 6), take(latents, 4, 2)
    assert torch.equal(whole[5]["latent_mean"], resumed[1]["latent_mean"])

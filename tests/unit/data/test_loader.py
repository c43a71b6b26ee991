"""Batches: repeatable by step, exact in size, robust against bad pictures; the latent cache is what it says."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from calotype.data import latent_cache
from calotype.data.companions import Pictures
from calotype.data.folder import FolderSource, open_source
from calotype.data.latent_cache import LatentCache, LatentLoader
from calotype.data.loader import Loader, ahead, pictures
from calotype.data.source import Record
from calotype.data.view import Augment
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


class Counting(FolderSource):
    """Counts how often each picture is decoded."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.decoded: Counter[int] = Counter()

    def __getitem__(self, index: int) -> Record:
        self.decoded[index] += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("augment", [Augment(), Augment(crop=True, flip=True)])
def test_a_picture_is_decoded_once_and_kept_or_not_is_the_same(folder: Path, augment: Augment) -> None:
    kept, afresh = Counting(folder), Counting(folder)
    a = take(Loader(kept, 16, 23, 0, augment), 0, 4)
    b = take(Loader(afresh, 16, 23, 0, augment, cache_bytes=0), 0, 4)
    assert set(kept.decoded.values()) == {1} and min(afresh.decoded.values()) >= 4
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x["image"], y["image"])


def test_the_kept_pictures_stay_within_the_limit(folder: Path) -> None:
    loader = Loader(FolderSource(folder), 16, 23, cache_bytes=5 * 16 * 16 * 3)
    take(loader, 0, 3)
    assert len(loader._cutter._kept) == 5 and loader._cutter._room == 0


def test_crops_move_from_epoch_to_epoch(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 192, 3, dtype=np.uint8), (16, 1))
    Image.fromarray(ramp).save(tmp_path / "wide.png")
    (batch,) = take(Loader(FolderSource(tmp_path), 16, 64, 0, Augment(crop=True)), 0, 1)
    lefts = {round(float(x[0, 0, 0]), 3) for x in batch["image"]}
    assert len(lefts) > 20  # of 49 places


def test_a_long_strip_is_cut_without_being_kept(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 2), (7, 8, 9)).save(tmp_path / "strip.png")
    loader = Loader(FolderSource(tmp_path), 16, 4, 0, Augment(crop=True))
    (batch,) = take(loader, 0, 1)
    assert batch["image"].shape == (4, 3, 16, 16) and not loader._cutter._kept


def test_five_percent_bad_pictures_leave_the_order_of_the_others(tmp_path: Path) -> None:
    for k in range(60):
        Image.new("RGB", (8, 8), (k, k, k)).save(tmp_path / f"{k:02d}.png")
    whole = take(Loader(FolderSource(tmp_path), 8, 10, 1), 0, 12)
    for k in (4, 31, 59):
        (tmp_path / f"{k:02d}.png").write_bytes(b"\x89PNG damaged")
    loader = Loader(FolderSource(tmp_path), 8, 10, 1)
    damaged = take(loader, 0, 12)
    assert sorted(loader.bad.messages) == [4, 31, 59]
    for a, b in zip(whole, damaged, strict=True):
        was, now = a["index"], b["index"]
        assert now.tolist() == [{4: 5, 31: 32, 59: 0}.get(i, i) for i in was.tolist()]
    again = take(Loader(FolderSource(tmp_path), 8, 10, 1), 7, 2)
    assert torch.equal(again[0]["image"], damaged[7]["image"])


def test_pictures_come_once_each_in_full_batches(folder: Path) -> None:
    (folder / "03.png").write_bytes(b"damaged")
    (folder / "22.png").write_bytes(b"damaged")
    batches = list(pictures(FolderSource(folder), 16, 4))
    assert [len(b["index"]) for b in batches] == [4, 4, 4, 4, 4, 1]
    assert torch.cat([b["index"] for b in batches]).tolist() == [k for k in range(23) if k not in (3, 22)]
    (part,) = pictures(FolderSource(folder), 16, 16, rows=range(2, 6))
    assert part["index"].tolist() == [2, 4, 5]


def test_an_interrupted_encoding_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_cache, "SHARD", 8)
    source, told = FolderSource(folder), [0, 0]

    def build(to: Path, limit: int, which: int) -> tuple[LatentCache, list[int]]:
        calls: list[int] = []

        def limited(image: Tensor) -> tuple[Tensor, Tensor]:
            if len(calls) == limit:
                raise KeyboardInterrupt
            calls.append(len(image))
            return encode(image)

        def advance(n: int) -> None:
            told[which] += n

        made = LatentCache.open(to, source, limited, side=16, autoencoder="a", flips=True, advance=advance)
        return made, calls

    whole, _ = build(tmp_path / "whole", 99, 0)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "cut", 4, 1)
    assert not (tmp_path / "cut").exists() and len(list((tmp_path / "cut.partial").iterdir())) == 2
    told[1] = 0
    resumed, calls = build(tmp_path / "cut", 99, 1)
    assert calls == [7, 7] and told == [23, 23] and not (tmp_path / "cut.partial").exists()
    for a, b in ((whole.mean, resumed.mean), (whole.std, resumed.std), (whole.index, resumed.index)):
        assert torch.equal(a, b)


def test_a_cache_remembers_which_pictures_were_bad(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_cache, "SHARD", 8)
    for k in (5, 20):
        (folder / f"{k:02d}.png").write_bytes(b"damaged")
    source = FolderSource(folder)
    for _ in ("made", "read"):
        cache = LatentCache.open(tmp_path / "c", source, encode, side=16, autoencoder="a", flips=False)
        assert sorted(cache.bad) == [5, 20] and "05.png" in cache.bad[5]
        assert cache.index.tolist() == [k for k in range(23) if k not in (5, 20)]

    def load() -> LatentLoader:
        return LatentLoader(cache, source, 9, companions={"image": Pictures()}, side=16)

    loader = load()
    take(loader, 0, 3)
    assert sorted(loader.bad.messages) == [5, 20]
    (folder / "07.png").unlink()
    with pytest.raises(UserError, match=r"3 of 23 pictures cannot be used, more than 10%; .*07\.png"):
        take(load(), 0, 3)


def test_a_latent_whose_picture_has_gone_is_left_out_with_it(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder)
    cache = LatentCache.open(tmp_path / "c", source, lambda x: (x, x * 0), side=16, autoencoder="a", flips=True)
    (folder / "07.png").unlink()
    loader = LatentLoader(cache, source, 23, companions={"image": Pictures()}, side=16)
    for batch in take(loader, 0, 3):
        assert sorted(batch["index"].tolist()) == sorted([*(k for k in range(23) if k != 7), 8])
        torch.testing.assert_close(batch["image"], batch["latent_mean"], atol=1e-3, rtol=0)
    assert [*loader.bad.messages] == [7] and "07.png" in loader.bad.messages[7]
    plain = LatentLoader(cache, source, 23)  # nothing looks at pictures
    assert sorted(take(plain, 0, 1)[0]["index"].tolist()) == [*range(23)]


def test_latents_beyond_float16_are_refused(folder: Path, tmp_path: Path) -> None:
    def wild(image: Tensor) -> tuple[Tensor, Tensor]:
        return image * 1e6, image

    with pytest.raises(UserError, match="not finite in float16"):
        LatentCache.open(tmp_path / "c", FolderSource(folder), wild, side=16, autoencoder="a", flips=False)
    assert not (tmp_path / "c").exists()

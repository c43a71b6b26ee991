"""What every source promises, for each of them by existing."""

import numpy as np
import pytest

from calotype.data.embedded import NAMES
from calotype.data.folder import open_source
from calotype.data.source import Source, sources
from calotype.data.subset import hold_out
from calotype.layout import UNLABELLED, check_labels
from calotype.registry import from_plain, to_plain


@pytest.fixture(params=[*NAMES, "fluent/train", "fluent-people/val"])
def source(request: pytest.FixtureRequest) -> Source:
    return open_source(f"embedded:{request.param}")


def test_records_agree_with_the_lists(source: Source) -> None:
    captions, labels = source.captions(), source.labels()
    assert len(captions) == len(labels) == len(source) > 0
    for i in {0, len(source) // 2, len(source) - 1}:
        record = source[i]
        assert (record.caption, record.label, record.key) == (captions[i], labels[i], source.key(i))
        assert record.image.mode == "RGB"
    assert all(-1 <= label < len(source.classes) for label in labels)
    assert len({source.key(i) for i in range(len(source))}) == len(source)


def test_records_agree_with_what_is_declared(source: Source) -> None:
    for i in {0, len(source) // 3, len(source) - 1}:
        record = source[i]
        check_labels(record.boxes, source.objects)
        assert source.objects or not record.boxes
        assert (record.label_map is not None) == bool(source.areas)
        if record.label_map is not None:
            assert record.label_map.mode == "L" and record.label_map.size == record.image.size
            values = {*np.unique(np.asarray(record.label_map)).tolist()}
            assert values <= {*range(len(source.areas)), UNLABELLED}
        assert (record.conditioning_image is not None) == source.paired
        if record.conditioning_image is not None:
            assert record.conditioning_image.mode == "RGB" and record.conditioning_image.size == record.image.size
    for names in (source.classes, source.objects, source.areas):
        assert len(set(names)) == len(names)


def test_a_part_declares_what_the_whole_does(source: Source) -> None:
    part = hold_out(source, 0.25, seed=0)[1]
    declared = (source.classes, source.objects, source.areas, source.paired)
    assert (part.classes, part.objects, part.areas, part.paired) == declared


def test_fingerprints_are_stable_and_distinct(source: Source) -> None:
    assert source.fingerprint() == source.fingerprint()
    others = {open_source(f"embedded:{n}").fingerprint() for n in (*NAMES, "fluent/train", "fluent-people/val")}
    assert len(others) == len(NAMES) + 2


def test_holding_out_splits_the_whole(source: Source) -> None:
    training, held_out = hold_out(source, 0.25, seed=0)
    keys = [[s.key(i) for i in range(len(s))] for s in (training, held_out)]
    assert sorted(keys[0] + keys[1]) == sorted(source.key(i) for i in range(len(source)))
    assert len(held_out) == round(0.25 * len(source))
    again = hold_out(source, 0.25, seed=0)[1]
    assert [again.key(i) for i in range(len(again))] == keys[1] and again.fingerprint() == held_out.fingerprint()
    assert held_out[0].caption == held_out.captions()[0]


def test_validation_split_shares_no_concept() -> None:
    train, val = open_source("embedded:fluent/train"), open_source("embedded:fluent/val")
    assert len(train) + len(val) == len(open_source("embedded:fluent"))
    base = {c.split(",")[0] for c in train.captions()} & {c.split(",")[0] for c in val.captions()}
    assert not base


def test_every_registered_source_can_be_named() -> None:
    assert sorted(NAMES) == list(sources)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_its_own_description(name: str) -> None:
    config = sources.create(name)
    assert to_plain(config)["type"] == f"source.{name}" and from_plain(to_plain(config)) == config
    assert config.open().fingerprint() == open_source(f"embedded:{name}").fingerprint()


def test_a_picture_beyond_the_end_is_an_index_error(source: Source) -> None:
    with pytest.raises(IndexError):
        source[len(source)]


@pytest.mark.parametrize("name", ["fluent", "fashion", "scenes"])
def test_splits_part_the_whole(name: str) -> None:
    whole, *parts = (open_source(f"embedded:{name}{split}") for split in ("", "/train", "/val"))
    keys = [part.key(i) for part in parts for i in range(len(part))]
    assert sorted(keys) == sorted(whole.key(i) for i in range(len(whole)))
    pictures = {whole.key(i): i for i in range(len(whole))}
    for part in parts:
        for i in (0, len(part) - 1):
            assert part[i].image.tobytes() == whole[pictures[part.key(i)]].image.tobytes()


def test_no_pixel_of_a_photograph_is_in_both_splits() -> None:
    """Every crop is looked up in its photograph: those of "train" end before the right quarter, where "val" begins."""
    photos = open_source("embedded:photos")
    pictures = {photos.key(i): np.asarray(photos[i].image) for i in range(len(photos))}
    for split, count in (("train", 64), ("val", 16)):
        crops = open_source(f"embedded:photo-crops/{split}")
        assert len(crops) == count * len(photos)
        for i in range(0, len(crops), 7):
            whole, crop = pictures[crops.key(i).partition("#")[0]], np.asarray(crops[i].image)
            edge = whole.shape[1] * 3 // 4
            part = whole[:, :edge] if split == "train" else whole[:, edge:]
            corners = np.argwhere(
                (part[: len(part) - len(crop) + 1, : part.shape[1] - len(crop) + 1] == crop[0, 0]).all(-1)
            )
            assert any(np.array_equal(part[y : y + len(crop), x : x + len(crop)], crop) for y, x in corners)


def test_the_mixed_set_has_all_three_kinds() -> None:
    for split in ("train", "val"):
        labels = open_source(f"embedded:mixed/{split}").labels()
        assert min(labels.count(k) for k in range(3)) >= 90

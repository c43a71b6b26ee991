"""Label maps are numbers, not brightnesses: what could change them is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.data import label_maps
from calotype.data.label_maps import AREAS, open_label_map, read_areas, read_label_map
from calotype.errors import BadImage, UserError

LABELS = np.array([[0, 1, 2], [2, 255, 1]], dtype=np.uint8)


def put(path: Path, labels: np.ndarray = LABELS, mode: str = "L", **options: int) -> Path:
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette([value for k in range(256) for value in (k, 255 - k, 7)])
    elif mode != "L":
        image = image.convert(mode)
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "P"])
def test_grey_and_palettes_give_their_numbers(tmp_path: Path, mode: str) -> None:
    found = read_label_map(put(tmp_path / "a.png", mode=mode), 3)
    assert found.dtype == np.uint8 and np.array_equal(found, LABELS)
    assert found.flags.writeable and open_label_map(tmp_path / "a.png").mode == "L"


def test_palettes_of_few_bits(tmp_path: Path) -> None:
    few = np.array([[0, 1], [3, 2]], dtype=np.uint8)
    for bits in (2, 4):
        assert np.array_equal(read_label_map(put(tmp_path / "a.png", few, "P", bits=bits), 4), few)


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "RGB"), ("I;16", "I;16B"), ("1", "1"), ("LA", "LA")])
def test_other_kinds_are_refused(tmp_path: Path, mode: str, kind: str) -> None:
    with pytest.raises(BadImage, match=rf"a\.png is a PNG of kind {kind}; a label map is 8-bit grey"):
        open_label_map(put(tmp_path / "a.png", mode=mode))


def test_what_is_no_png_or_damaged_is_refused(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "a.jpg")
    with pytest.raises(BadImage, match="is no PNG picture"):
        open_label_map(tmp_path / "a.jpg")
    whole = put(tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:50])
    with pytest.raises(BadImage, match="cannot be read"):
        open_label_map(tmp_path / "a.png")
    with pytest.raises(BadImage, match="more than 0 megapixels"):
        open_label_map(put(tmp_path / "a.png"), max_pixels=5)
    with pytest.raises(BadImage, match="cannot be read"):
        read_label_map(tmp_path / "nowhere.png", 3)


def test_numbers_beyond_the_areas_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"has the label 2, but there are 2 areas: 0 \.\.\. 1, or 255"):
        read_label_map(put(tmp_path / "a.png"), 2)


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(LABELS).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_label_map(tmp_path / "a.png", 3), np.rot90(LABELS, -1))


def test_areas_are_named_or_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / AREAS).mkdir()
    with pytest.raises(UserError, match=f"{AREAS} is no ordinary file"):
        read_areas(tmp_path, [])
    (tmp_path / AREAS).rmdir()
    maps = [put(tmp_path / "a.png"), put(tmp_path / "b.png", LABELS * 0 + 4), tmp_path / "damaged.png"]
    assert read_areas(tmp_path, maps) == tuple(f"area {k}" for k in range(5))
    monkeypatch.setattr(label_maps, "MAX_COUNTED", 2)
    with pytest.raises(UserError, match=rf"has 3 label maps; write the names of their areas into {AREAS}"):
        read_areas(tmp_path, maps)
    (tmp_path / AREAS).write_text("\ufeffsky\n two  words\nsea\n\n", encoding="utf-8")
    assert read_areas(tmp_path, maps) == ("sky", "two words", "sea")


def test_maps_without_any_label(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pixel of any label map has a label"):
        read_areas(tmp_path, [put(tmp_path / "a.png", LABELS * 0 + 255)])
    with pytest.raises(BadImage, match="kind RGB"):
        read_areas(tmp_path, [put(tmp_path / "a.png", mode="RGB")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 lines"),
        ("\n".join(map(str, range(256))), "has 256 lines"),
        ("sky\n\nsea", "line 2 is ''"),
        ("sky\nsea\nsky", "line 3 is 'sky', which names no area of its own"),
    ],
)
def test_mistaken_lists_of_areas(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / AREAS).write_text(text)
    with pytest.raises(UserError, match=message):
        read_areas(tmp_path, [])

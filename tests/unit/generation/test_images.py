"""8 bits, contact sheets, and what PNG files say about themselves."""

import errno
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont, PngImagePlugin

from calotype.errors import BadImage, DiskFull
from calotype.generation.images import GENERATED, Parameters, grid, read_png, save_png, to_pil, to_uint8, wrap


def test_every_8_bit_value_survives() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 127.5 - 1), levels)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


def test_nan_is_no_colour() -> None:
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.tensor([0.0, float("nan")]))


def test_to_pil_keeps_channels_and_axes() -> None:
    image = torch.full((3, 2, 4), -1.0)
    image[0, 1, 3] = 1.0
    pil = to_pil(image)
    assert pil.size == (4, 2) and pil.mode == "RGB" and pil.getpixel((3, 1)) == (255, 0, 0)
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        to_pil(torch.zeros(1, 3, 4, 4))


def test_grid_shows_every_picture_unchanged_and_in_order() -> None:
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]])
    images = (colours.float() / 127.5 - 1)[:, :, None, None].expand(5, 3, 200, 200)
    sheet = np.array(grid(images, columns=3, captions=["one", "", "three", "four", "five"], title="Five colours"))
    places = []
    for colour in colours.tolist():
        rows, columns = np.nonzero((sheet == colour).all(-1))
        assert len(rows) == 200 * 200
        places.append((rows.min(), columns.min()))
    assert [sorted(places).index(p) for p in places] == [0, 1, 2, 3, 4]
    assert len({r for r, _ in places[:3]}) == 1 and places[3][0] > places[0][0]


def test_grid_enlarges_small_pictures_by_a_whole_factor() -> None:
    small, captions = torch.zeros(2, 3, 64, 64), ["a", "b"]
    assert grid(small, columns=2).width > 2 * 128
    assert grid(small, captions=captions).height > grid(small).height
    assert grid(small, title="A title").height > grid(small).height


def test_grid_of_nothing_is_a_sheet_of_paper() -> None:
    assert min(grid(torch.zeros(0, 3, 8, 8)).size) > 0


def test_grid_counts_captions() -> None:
    with pytest.raises(ValueError, match="2 captions, got 1"):
        grid(torch.zeros(2, 3, 8, 8), captions=["a"])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.integers(20, 200), st.integers(1, 4))
def test_wrapped_lines_fit(text: str, width: int, lines: int) -> None:
    font = ImageFont.load_default(14)
    wrapped = wrap(text, font, width, lines)
    assert len(wrapped) <= lines
    assert all(font.getlength(line) <= width or len(line) == 1 for line in wrapped)
    if not wrapped or not wrapped[-1].endswith("…"):
        assert "".join(wrapped).replace(" ", "") == "".join(text.split())


def test_long_captions_end_in_an_ellipsis() -> None:
    wrapped = wrap("a very long caption that goes on and on without an end", ImageFont.load_default(14), 80, lines=2)
    assert len(wrapped) == 2 and wrapped[-1].endswith("…")


PARAMETERS = Parameters(
    "a red heart\nover two lines",
    "",
    {"Steps": "20", "Sampler": "DPM++ 2M Karras", "CFG scale": "3.0", "Seed": "7", "Size": "64x64", "Version": "x"},
)


def test_png_round_trip(tmp_path: Path) -> None:
    image = torch.rand(3, 16, 24) * 2 - 1
    record = {"seed": 7, "wish": {"caption": "ein rotes Herz ❤"}, "sampler": {"type": "sampler.ddim", "eta": 0.0}}
    save_png(image, tmp_path / "deep" / "a.png", PARAMETERS, record)
    note = read_png(tmp_path / "deep" / "a.png")
    assert (note.parameters, note.record, note.generated) == (PARAMETERS, record, True)
    with Image.open(tmp_path / "deep" / "a.png") as back:
        assert torch.equal(torch.from_numpy(np.array(back)).permute(2, 0, 1), to_uint8(image))
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_the_line_is_written_as_other_tools_read_it() -> None:
    assert PARAMETERS.text() == (
        "a red heart\nover two lines\n"
        "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 3.0, Seed: 7, Size: 64x64, Version: x"
    )


def test_reads_the_line_of_another_tool() -> None:
    text = (
        "masterpiece, (cat:1.2)\nNegative prompt: blurry, dog\n"
        'Steps: 25, Sampler: Euler a, CFG scale: 7.5, Seed: 1, Size: 512x768, Lora hashes: "a: 1, b: 2", Version: v1.7'
    )
    parameters = Parameters.parse(text)
    assert parameters.prompt == "masterpiece, (cat:1.2)" and parameters.negative == "blurry, dog"
    assert parameters.settings["Lora hashes"] == "a: 1, b: 2" and parameters.settings["Size"] == "512x768"
    assert Parameters.parse(parameters.text()) == parameters


def test_a_wish_without_settings_stays_a_wish() -> None:
    assert Parameters.parse("note: this is a wish, not a setting") == Parameters("note: this is a wish, not a setting")


plain = st.text(st.characters(categories=["L", "N"], include_characters=' ,:"\\\n-+'), max_size=30)


@given(
    st.text(st.characters(categories=["L", "N"]), max_size=20),
    st.dictionaries(st.sampled_from(["Sampler", "CFG scale", "Seed", "Model", "Size"]), plain.map(str.strip)),
)
def test_any_value_survives_the_line(prompt: str, values: dict[str, str]) -> None:
    parameters = Parameters(prompt, "", {"Steps": "20", **values})
    assert Parameters.parse(parameters.text()) == parameters


def test_mark_is_standard_xmp_and_can_be_left_out(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4))
    save_png(image, tmp_path / "marked.png")
    with Image.open(tmp_path / "marked.png") as back:
        assert isinstance(back, PngImagePlugin.PngImageFile)
        xmp = back.text["XML:com.adobe.xmp"]
        assert set(back.text) == {"XML:com.adobe.xmp"}
    tree = ElementTree.fromstring(xmp[xmp.index("<x:xmpmeta") : xmp.index("<?xpacket end")])
    (description,) = tree.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType") == GENERATED
    save_png(image, tmp_path / "bare.png", mark=False)
    assert not read_png(tmp_path / "bare.png").generated
    assert b"tEXt" not in (tmp_path / "bare.png").read_bytes() and b"iTXt" not in (tmp_path / "bare.png").read_bytes()


def test_bad_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="no file"):
        read_png(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(BadImage, match="cannot be read"):
        read_png(tmp_path / "text.png")
    save_png(torch.rand(3, 64, 64), tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    with pytest.raises(BadImage, match="cannot be read"):
        read_png(tmp_path / "cut.png")
    for text in ("{", json.dumps(["a list"])):
        notes = PngImagePlugin.PngInfo()
        notes.add_text("calotype", text)
        Image.new("RGB", (4, 4)).save(tmp_path / "odd.png", pnginfo=notes)
        if text == "{":
            with pytest.raises(BadImage, match="damaged"):
                read_png(tmp_path / "odd.png")
        else:
            assert read_png(tmp_path / "odd.png").record == {}


def test_a_note_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("calotype", "0" * (8 << 20), zip=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "bomb.png", pnginfo=notes)
    with pytest.raises(BadImage, match="cannot be read"):
        read_png(tmp_path / "bomb.png")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    save_png(Image.new("RGB", (4, 4), "red"), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="no room"):
        save_png(Image.new("RGB", (4, 4), "blue"), path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]

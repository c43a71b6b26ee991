"""Pictures of every mode come out as RGB; damaged and huge ones as one clear sentence."""

import io
import random
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calotype.data.images import open_image, place, read_header, scaled, square, to_tensor
from calotype.errors import BadImage


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


COLOURS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = COLOURS if mode == "I;16" else COLOURS.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(COLOURS.convert("L")).astype(np.uint16) * 257)
    opened = open_image(encode(image))
    assert opened.mode == "RGB" and opened.size == (14, 9)


def test_cmyk_jpeg() -> None:
    assert open_image(encode(COLOURS.convert("CMYK"), "JPEG")).mode == "RGB"


def test_sixteen_bits_keep_their_brightness() -> None:
    grey = np.array([[0, 32768, 65535]], dtype=np.uint16)
    assert np.asarray(open_image(encode(Image.fromarray(grey))))[0, :, 0].tolist() == [0, 127, 255]


def test_transparency_shows_the_background() -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert open_image(encode(clear)).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(encode(clear), background=(1, 2, 3)).getpixel((0, 0)) == (1, 2, 3)
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert open_image(encode(half)).getpixel((0, 0)) == (127, 127, 127)


def test_palette_transparency() -> None:
    image = COLOURS.convert("P")
    image.info["transparency"] = image.getpixel((0, 0))
    assert open_image(encode(image, transparency=image.getpixel((0, 0)))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_image(encode(COLOURS, "PNG", exif=exif))
    assert opened.size == ((14, 9) if orientation < 5 else (9, 14))
    if orientation == 3:
        assert np.array_equal(np.asarray(opened), np.asarray(COLOURS)[::-1, ::-1])


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    assert open_image(encode(frames[0], "GIF", save_all=True, append_images=frames[1:])).getpixel((0, 0)) == (255, 0, 0)


def test_too_large_is_refused_before_decoding() -> None:
    with pytest.raises(BadImage, match="3000 x 3000, more than 1 megapixels"):
        open_image(encode(Image.new("1", (3000, 3000))), max_pixels=1_000_000)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"II*\x00" + b"\0" * 64])
def test_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(BadImage, match="is no PNG, JPEG, WEBP, BMP, GIF picture or is damaged"):
        open_image(content)


def test_other_formats_are_refused() -> None:
    with pytest.raises(BadImage):
        open_image(encode(COLOURS, "TIFF"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"gone\.png"):
        open_image(tmp_path / "gone.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_damage_never_escapes(kind: str) -> None:
    """400 damaged files per format: a picture or `BadImage`, nothing else."""
    whole, rng, bad = encode(COLOURS, kind), random.Random(kind), 0
    for _ in range(400):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 6)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            assert open_image(bytes(data), max_pixels=1_000_000).mode == "RGB"
        except BadImage:
            bad += 1
    assert bad > 0


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_headers_tell_the_size_of_what_is_opened(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    header = read_header(path)
    assert header.size == (30, 20) and header.upright_size == open_image(path).size
    assert (header.turn is None) == (orientation < 5)


def test_headers_are_read_without_decoding(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        path = tmp_path / f"a.{suffix}"
        Image.effect_noise((300, 200), 50).save(path)
        path.write_bytes(path.read_bytes()[:-5000])
        assert read_header(path).upright_size == (300, 200)
        with pytest.raises(BadImage):
            open_image(path)
    with pytest.raises(BadImage, match="megapixels"):
        read_header(path, max_pixels=10)
    with pytest.raises(BadImage, match="cannot be read"):
        read_header(tmp_path / "nowhere.png")


def test_square_scales_the_short_side_and_crops_where_told() -> None:
    wide = Image.new("RGB", (200, 100))
    wide.paste((255, 255, 255), (0, 0, 100, 100))
    assert square(wide, 50).size == (50, 50)
    assert np.asarray(square(wide, 50, 0.0)).mean() > 250 > 5 > np.asarray(square(wide, 50, 1.0)).mean()
    assert square(Image.new("RGB", (1, 1)), 8).size == (8, 8)
    assert square(Image.new("RGB", (3, 1000)), 16).size == (16, 16)


def test_tensor_range_and_layout() -> None:
    x = to_tensor(np.array([[[0, 255, 51]]], dtype=np.uint8))
    assert x.shape == (3, 1, 1)
    torch.testing.assert_close(x.flatten(), torch.tensor([-1.0, 1.0, -0.6]))


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    dark = Image.fromarray(np.full((2, 2), 200, dtype=np.uint16))
    assert open_image(encode(dark)).getpixel((0, 0)) == (0, 0, 0)


def test_decoding_in_threads_leaves_the_warning_filters_alone() -> None:
    before, data = list(warnings.filters), encode(COLOURS)
    threads = [threading.Thread(target=lambda: [open_image(data) for _ in range(200)]) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert warnings.filters == before


@pytest.mark.parametrize("size", [(1, 30_000_000), (30_000_000, 1)])
def test_a_strip_does_not_fill_the_memory(size: tuple[int, int]) -> None:
    """Scaled as a whole, this one would take 360 GB."""
    assert square(Image.new("RGB", size, (9, 9, 9)), 64, 0.3, 0.3).getpixel((0, 0)) == (9, 9, 9)


@pytest.mark.parametrize("size", [(90, 40), (33, 70), (5, 9), (64, 64), (64, 100)])
@pytest.mark.parametrize("at", [0.0, 0.37, 1.0])
def test_square_is_scaling_and_cutting(size: tuple[int, int], at: float) -> None:
    """But for rounding; the contrast is low because each of Lanczos's two passes clips."""
    pixels = np.random.default_rng(0).integers(110, 146, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    whole = scaled(image, 64)
    left, top = place(whole.size, 64, at, at)
    cut = np.asarray(whole.crop((left, top, left + 64, top + 64))).astype(int)
    assert min(whole.size) == 64 and np.abs(np.asarray(square(image, 64, at, at)) - cut).max() <= 2

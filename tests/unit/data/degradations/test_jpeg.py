import io

import numpy as np
import pytest
from PIL import Image

from calotype.data.degradations.base import to_picture, to_pixels
from calotype.data.degradations.jpeg import RandomJPEG, jpeg
from calotype.errors import UserError

GREY = np.random.default_rng(0).normal(128, 25, (40, 56, 1)).clip(0, 255)
PHOTO = GREY.repeat(3, 2).astype(np.uint8)


def error(quality: int) -> float:
    return float(np.abs(jpeg(PHOTO, quality).astype(int) - PHOTO).mean())


def test_compression_costs_detail_the_more_the_lower_the_quality() -> None:
    errors = [error(quality) for quality in (95, 80, 50, 30, 5)]
    assert errors == sorted(errors) and errors[0] > 1 and errors[-1] > 2 * errors[0]


def test_it_is_the_file_that_pillow_writes() -> None:
    data = io.BytesIO()
    Image.fromarray(PHOTO).save(data, "JPEG", quality=70, subsampling=2)
    assert np.array_equal(jpeg(PHOTO, 70), np.asarray(Image.open(data)))


def test_colour_has_half_the_resolution() -> None:
    """Columns of red and cyan of the same brightness: at twice the resolution of colour all of it is gone."""
    red, cyan = (160, 60, 90), (40, 111, 102)
    stripes = np.array([red, cyan] * 16, dtype=np.uint8)[None].repeat(32, 0)

    def spread(pixels: np.ndarray) -> float:
        return float(np.ptp(pixels.astype(int)[..., 0] - pixels.astype(int)[..., 1], axis=1).mean())

    assert spread(jpeg(stripes, 95)) < 0.2 * spread(stripes)


def test_random_quality_covers_its_range() -> None:
    picture = to_picture(PHOTO)
    rng, found = np.random.default_rng(0), set()
    variants = {jpeg(PHOTO, q).tobytes(): q for q in range(30, 34)}
    for _ in range(40):
        out = RandomJPEG((30, 33))(picture, rng)
        assert out.dtype == np.float32 and out.min() >= 0 and out.max() <= 1
        found.add(variants[to_pixels(out).tobytes()])
    assert found == {30, 31, 32, 33}


def test_bytes_survive_being_a_picture() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(to_pixels(to_picture(levels)), levels)
    assert to_pixels(np.array([-0.1, 1.2, 0.5 / 255 + 1e-4], np.float32)).tolist() == [0, 255, 1]


@pytest.mark.parametrize("quality", [(0, 50), (60, 50), (90, 101)])
def test_wrong_quality_is_refused(quality: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="quality must be"):
        RandomJPEG(quality)

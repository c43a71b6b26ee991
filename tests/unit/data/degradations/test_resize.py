import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from calotype.data.degradations.resize import Resampling, area, cubic, keys, linear, resize, smooth_cubic

IMAGE = np.random.default_rng(0).random((31, 24, 3), dtype=np.float32)
SIZES = [(15, 12), (13, 7), (31, 24), (40, 50), (1, 1), (62, 48)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resampling", "mode"), [(linear, "bilinear"), (cubic, "bicubic")])
def test_linear_and_cubic_are_those_of_other_libraries(
    resampling: Resampling, mode: str, size: tuple[int, int]
) -> None:
    x = torch.from_numpy(IMAGE).permute(2, 0, 1)[None]
    expected = F.interpolate(x, size, mode=mode, align_corners=False, antialias=False)[0].permute(1, 2, 0).numpy()
    assert np.abs(resize(IMAGE, *size, resampling) - expected).max() < 2e-6


@pytest.mark.parametrize("size", SIZES)
def test_area_is_the_mean_over_the_footprint(size: tuple[int, int]) -> None:
    """Every pixel repeated until both grids fit; then means of whole blocks."""
    up = [math.lcm(a, b) // a for a, b in zip(IMAGE.shape, size, strict=False)]
    fine = IMAGE.astype(float).repeat(up[0], 0).repeat(up[1], 1)
    (height, width), (fine_h, fine_w, _) = size, fine.shape
    expected = fine.reshape(height, fine_h // height, width, fine_w // width, 3).mean((1, 3))
    assert np.abs(resize(IMAGE, *size, area) - expected).max() < 1e-6


def imresize_line(line: np.ndarray, n: int) -> np.ndarray:
    """Each output pixel by the definition, over a line mirrored often enough."""
    scale, n_in = min(n / len(line), 1.0), len(line)
    far = np.concatenate([line, line[::-1]] * 9)
    out = []
    for j in range(n):
        u = (j + 0.5) * n_in / n - 0.5 + 8 * n_in
        at = np.arange(len(far))
        x = np.abs(at - u) * scale
        w = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x <= 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
        out.append((w * far).sum() / w.sum())
    return np.array(out)


@pytest.mark.parametrize(("n_in", "n"), [(32, 8), (30, 15), (31, 12), (12, 31), (9, 9), (5, 1)])
def test_smooth_cubic_is_imresize(n_in: int, n: int) -> None:
    line = np.random.default_rng(1).random(n_in)
    out = resize(np.repeat(line.astype(np.float32)[:, None, None], 4, 1), n, 4, smooth_cubic)
    assert np.abs(out[:, 0, 0] - imresize_line(line, n)).max() < 2e-6


def test_smooth_cubic_is_pillow_s_away_from_the_border() -> None:
    image = np.random.default_rng(2).random((64, 64), dtype=np.float32)
    theirs = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC))
    ours = resize(image[..., None], 16, 16, smooth_cubic)[..., 0]
    assert np.abs(ours - theirs)[2:-2, 2:-2].max() < 2e-6 < np.abs(ours - theirs).max()


@pytest.mark.parametrize("resampling", [linear, cubic, area, smooth_cubic])
@pytest.mark.parametrize(("n_in", "n"), [(7, 3), (3, 7), (255, 100), (1, 4), (4, 1), (49, 10)])
def test_weights_sum_to_one_inside_the_picture(resampling: Resampling, n_in: int, n: int) -> None:
    at, weight = resampling(n_in, n)
    assert len(at) == n and at.shape == weight.shape
    assert np.abs(weight.sum(1) - 1).max() < 1e-12
    assert at.min() >= 0 and at.max() < n_in


@pytest.mark.parametrize("a", [-0.5, -0.75])
def test_keys_kernel_interpolates_and_joins_smoothly(a: float) -> None:
    """Keys' conditions: 1 at 0, 0 at 1 and 2, value and slope continuous there, integer shifts sum to 1."""
    assert keys(np.array([0.0, 1.0, -1.0, 2.0, 3.5]), a).tolist() == [1, 0, 0, 0, 0]
    for knot in (1.0, 2.0):
        left, right = keys(np.array([knot - 1e-6, knot + 1e-6]), a)
        slope = (keys(np.array([knot + 1e-6]), a) - keys(np.array([knot - 1e-6]), a)) / 2e-6
        assert abs(left) < 1e-5 and abs(right) < 1e-5
        assert abs(slope[0] - (a if knot == 1 else 0)) < 1e-4
    assert abs(keys(0.3 + np.arange(-2.0, 2.0), a).sum() - 1) < 1e-12

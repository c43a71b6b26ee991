from collections import Counter

import numpy as np
import pytest
from scripted import Scripted

from calotype.data.degradations import BSR, BSRLight, RandomJPEG, RandomNoise, shuffled
from calotype.data.degradations.blur import RandomBlur
from calotype.data.degradations.convolution import convolve
from calotype.data.degradations.kernels import isotropic
from calotype.data.degradations.resize import area, resize, smooth_cubic
from calotype.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
PICTURE = np.random.default_rng(1).random((16, 24, 3), dtype=np.float32)
SHARP = RandomBlur(0.0, (1,), (1,))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What happens to a picture, with sizes; nothing is replaced."""
    calls: list[tuple] = []

    def record(name: str, owner: object, attribute: str, say) -> None:
        original = getattr(owner, attribute)

        def recorded(*args):
            calls.append((name, *say(*args)))
            return original(*args)

        monkeypatch.setattr(owner, attribute, recorded)

    record("half", shuffled, "halved", lambda image, rng: ())
    record("resample", shuffled, "resampled", lambda image, height, width, rng: (image.shape[:2], (height, width)))
    record("sieve", shuffled, "sieved", lambda image, factor, sigma: (factor, sigma))
    record("blur", RandomBlur, "__call__", lambda self, image, factor, rng: (factor, image.shape[:2]))
    record("noise", RandomNoise, "__call__", lambda self, image, rng: ())
    record("jpeg", RandomJPEG, "__call__", lambda self, image, rng: ())
    return calls


@pytest.mark.parametrize(
    ("degradation", "blurs", "resized"), [(BSR(), 2, 0.75), (BSRLight(), 1, 0.8), (BSRLight(factor=3), 1, 0.8)]
)
def test_how_often_each_branch_is_taken(degradation, blurs: int, resized: float, told: list[tuple]) -> None:
    n, seen, rng = 250, Counter(), np.random.default_rng(0)
    for _ in range(n):
        told.clear()
        assert degradation(IMAGE[:12, :12], rng).shape == (12 // degradation.factor,) * 2 + (3,)
        names = [call[0] for call in told]
        assert names.count("blur") == blurs and names.count("noise") == 1 and names[-1] == "jpeg"
        seen.update({name: names.count(name) for name in ("half", "sieve", "jpeg")})
        factors = {call[1] for call in told if call[0] == "blur"}
        assert factors == {2 if "half" in names else degradation.factor}
        seen[" ".join(sorted(set(names), key=names.index))] += 1
    assert abs(seen["half"] / n - (0.25 if degradation.factor == 4 else 0)) < 0.08
    assert abs(seen["sieve"] / n - (1 - resized)) < 0.08
    assert abs(seen["jpeg"] / n - 1.9) < 0.06
    assert len(seen) > 30, "orders"


def test_the_final_size_is_never_taken_before_shrinking(told: list[tuple]) -> None:
    """Every order of the five steps begins as often; the last resampling reaches the final size and stays there."""
    first = Counter()
    for seed in range(200):
        told.clear()
        BSRLight()(IMAGE, Scripted(seed, random=[0.9]))
        steps = [call for call in told if call[0] != "half"]
        first[steps[0][0]] += 1
        resamples = [call for call in steps if call[0] == "resample"]
        assert resamples[-1][2] == (4, 6)
        assert [call[0] for call in steps].index("sieve" if len(resamples) == 1 else "resample") <= steps.index(
            resamples[-1]
        )
    # shrink comes first where either of the two does
    shrinks = first["resample"] + first["sieve"]
    assert abs(shrinks / 200 - 0.4) < 0.1 and abs(first["blur"] / 200 - 0.2) < 0.08
    assert abs(first["noise"] / 200 - 0.2) < 0.08 and first["jpeg"] > 20


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shrinking_by_a_random_factor_covers_1_to_2_f(factor: int, told: list[tuple]) -> None:
    ratios = []
    image = IMAGE[:12, :12].repeat(10, 0).repeat(10, 1)
    degradation = BSR(factor, SHARP, 0, 1.0, RandomNoise((0, 0)), RandomJPEG((95, 95)))
    for seed in range(80):
        told.clear()
        degradation(image, Scripted(seed, random=[0.9] if factor == 4 else []))
        (size, (height, _)) = next(call for call in told if call[0] == "resample")[1:]
        ratios.append(size[0] / height)
    assert 1 <= min(ratios) < 1.25 and 1.75 * factor < max(ratios) <= 2 * factor * 1.08  # whole pixels


def test_sieving_is_blur_and_every_nth_pixel_s_middle() -> None:
    """Almost no blur: with a factor of 2 what is left is the mean of each 2 x 2 block; a ramp stays a ramp."""
    assert np.abs(shuffled.sieved(PICTURE, 2, 0.1) - resize(PICTURE, 8, 12, area)).max() < 1e-3
    ramp = np.broadcast_to(np.linspace(0, 0.95, 20, dtype=np.float32)[:, None, None], (20, 20, 3))
    for factor, sigma in ((2, 0.8), (4, 0.6), (5, 1.0)):
        out = shuffled.sieved(np.ascontiguousarray(ramp), factor, sigma)
        middle = ramp[:, 0, 0].reshape(-1, factor).mean(1)
        assert np.abs(out[:, 2, 1] - middle)[1:-1].max() < 2e-3
    assert shuffled.sieved(PICTURE, 5, 1.0).shape == (4, 5, 3)


def test_sieving_by_an_odd_factor_is_a_plain_gaussian() -> None:
    picture = PICTURE[:15]
    expected = convolve(picture, isotropic(25, 0.9))[1::3, 1::3]
    assert np.abs(shuffled.sieved(picture, 3, 0.9) - expected).max() < 1e-5


def test_halving_with_and_without_antialiasing() -> None:
    smooth = shuffled.halved(PICTURE, Scripted(random=[0.5]))
    assert np.array_equal(smooth, resize(PICTURE, 8, 12, smooth_cubic).clip(0, 1))
    plain = {shuffled.halved(PICTURE, Scripted(seed, random=[0.49])).tobytes() for seed in range(20)}
    assert len(plain) == 2, "linear and area are the same for a half; cubic is another"
    assert smooth.tobytes() not in plain


def test_resampling_is_one_of_three_and_clipped() -> None:
    drawn = [shuffled.resampled(PICTURE, 7, 9, np.random.default_rng(seed)) for seed in range(30)]
    assert len({picture.tobytes() for picture in drawn}) == 3
    edge = np.zeros((12, 12, 3), np.float32)
    edge[:, 6:] = 1
    for seed in range(12):
        out = shuffled.resampled(edge, 9, 30, np.random.default_rng(seed))
        assert out.min() >= 0 and out.max() <= 1
    assert shuffled.resampled(edge, 0, 3, np.random.default_rng(0)).shape == (1, 3, 3)


def test_with_everything_turned_down_only_the_last_jpeg_and_resampling_are_left() -> None:
    smooth = np.broadcast_to(np.linspace(40, 200, 32).astype(np.uint8)[:, None, None], (32, 32, 3))
    gentle = BSRLight(2, SHARP, 0, 0.0, RandomNoise((0, 0)), RandomJPEG((100, 100)))
    out = gentle(smooth, np.random.default_rng(0)).astype(float)
    assert np.abs(out - smooth.astype(float).reshape(16, 2, 16, 2, 3).mean((1, 3)))[1:-1].max() < 2


@pytest.mark.parametrize(("field", "value"), [("blurs", -1), ("resized", 1.1), ("factor", 1)])
def test_wrong_numbers_are_refused(field: str, value: float) -> None:
    with pytest.raises(UserError, match=field):
        BSR(**{field: value})

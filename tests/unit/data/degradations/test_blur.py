import numpy as np
import pytest
from scripted import Scripted

from calotype.data.degradations import BSR, BSRLight
from calotype.data.degradations.blur import RandomBlur
from calotype.errors import UserError

LIGHT, FULL = BSRLight().blur, BSR().blur


def variances(kernel: np.ndarray) -> np.ndarray:
    d = np.arange(len(kernel)) - len(kernel) // 2
    y, x = np.meshgrid(d, d, indexing="ij")
    at = np.stack([x, y]).reshape(2, -1)
    return np.linalg.eigvalsh((at * kernel.ravel()) @ at.T)


@pytest.mark.parametrize(
    ("blur", "kind", "sizes"),
    [
        (FULL, 0.0, set(range(7, 26, 2))),
        (FULL, 0.5, set(range(7, 26, 2))),
        (LIGHT, 0.49, {5, 7, 9, 11, 13, 15}),
        (LIGHT, 0.99, {5, 7}),
    ],
)
def test_sizes_are_odd_and_all_occur(blur: RandomBlur, kind: float, sizes: set[int]) -> None:
    kernels = [blur.kernel(4, Scripted(seed, random=[kind])) for seed in range(150)]
    assert {len(k) for k in kernels} == sizes
    for kernel in kernels:
        assert np.isfinite(kernel).all() and abs(kernel.sum() - 1) < 1e-9
        assert np.abs(kernel - kernel[::-1, ::-1]).max() < 1e-12, "moves nothing"


@pytest.mark.parametrize("factor", [2, 4])
def test_long_blurs_have_variances_from_0_to_4_plus_factor_in_any_direction(factor: int) -> None:
    blur = RandomBlur(1.0, (61,), (61,))
    drawn = [blur.kernel(factor, Scripted(seed, random=[0.0])) for seed in range(200)]
    both = np.array([variances(kernel) for kernel in drawn])
    assert 0.95 * (4 + factor) < both.max() <= (4 + factor) * 1.001 and abs(both.mean() / (4 + factor) - 0.5) < 0.06
    skew = [kernel[29, 31] - kernel[29, 29] for kernel in drawn]  # whether the long axis falls or rises
    assert min(np.sum(np.array(skew) > 1e-6), np.sum(np.array(skew) < -1e-6)) > 60


@pytest.mark.parametrize(("strength", "factor"), [(1.0, 4), (0.25, 4), (1.0, 2)])
def test_round_blurs_are_round_and_reach_their_width(strength: float, factor: int) -> None:
    widest = strength * (2 + 0.2 * factor)
    blur = RandomBlur(strength, (5,), (41,))
    both = np.array([variances(blur.kernel(factor, Scripted(seed, random=[0.5]))) for seed in range(200)])
    assert np.abs(both[:, 0] - both[:, 1]).max() < 1e-9
    sigma = np.sqrt(both[:, 0])
    assert 0.9 * widest < sigma.max() <= widest * 1.001


def test_no_strength_is_no_blur() -> None:
    image = np.random.default_rng(0).random((12, 9, 3), dtype=np.float32)
    for kind in (0.0, 0.9):
        out = RandomBlur(0.0, (5,), (6,))(image, 4, Scripted(random=[kind]))
        assert np.abs(out - image).max() < 1e-6


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="strength"):
        RandomBlur(-0.1, (5,), (5,))
    for sizes in ((), (0,)):
        with pytest.raises(UserError, match="sizes"):
            RandomBlur(1.0, (5,), sizes)

import numpy as np
import pytest
from scripted import Scripted

from calotype.data.degradations.noise import RandomNoise, colour_covariance, correlated
from calotype.errors import UserError

GREY = np.full((120, 150, 3), 0.5, np.float32)
LEVEL = 20
SIGMA = LEVEL / 255


def noise(kind: float) -> np.ndarray:
    return (RandomNoise((LEVEL, LEVEL))(GREY, Scripted(random=[kind])) - 0.5).reshape(-1, 3)


def test_coloured_noise_is_independent_in_each_channel() -> None:
    covariance = np.cov(noise(0.61).T) / SIGMA**2
    assert np.abs(covariance - np.eye(3)).max() < 0.05


def test_grey_noise_is_the_same_in_all_channels() -> None:
    grey = noise(0.39)
    assert np.ptp(grey, axis=1).max() == 0 and abs(grey.std() / SIGMA - 1) < 0.03 and abs(grey.mean()) < 0.02 * SIGMA


def test_correlated_noise_has_the_covariance_drawn() -> None:
    """Of the highest level whatever is drawn, and between the two other kinds."""
    for kind in (0.4, 0.6):
        rng, again = Scripted(7, random=[kind]), Scripted(7, random=[])
        out = (RandomNoise((1, LEVEL))(GREY, rng) - 0.5).reshape(-1, 3)
        again.integers(1, LEVEL, endpoint=True)
        expected = colour_covariance(SIGMA, again)
        assert np.abs(np.cov(out.T) - expected).max() < 0.04 * SIGMA**2


def test_colour_covariances_are_covariances_of_the_size_asked_for() -> None:
    """Also after taking the absolute value of each entry; the trace is that of d, 3 / 2 on average."""
    rng = np.random.default_rng(0)
    drawn = np.array([colour_covariance(1.0, rng) for _ in range(2000)])
    assert np.linalg.eigvalsh(drawn).min() > -1e-12 and drawn.min() >= 0
    assert abs(np.trace(drawn, axis1=1, axis2=2).mean() - 1.5) < 0.04
    assert (
        colour_covariance(3.0, np.random.default_rng(1)) == 9 * colour_covariance(1.0, np.random.default_rng(1))
    ).all()


def test_a_singular_covariance_gives_no_nan() -> None:
    out = correlated((40, 50, 3), np.ones((3, 3)), np.random.default_rng(0))
    assert out.dtype == np.float32 and np.isfinite(out).all() and np.ptp(out, axis=2).max() < 1e-5


def test_levels_cover_their_range_and_the_picture_stays_in_its_own() -> None:
    image, rng = np.zeros((40, 40, 3), np.float32), np.random.default_rng(0)
    image[:, 20:] = 1
    for _ in range(20):
        out = RandomNoise((2, 60))(image, rng)
        assert out.dtype == np.float32 and out.min() >= 0 and out.max() <= 1
    stds = {round(RandomNoise((1, 3))(GREY, Scripted(k, random=[0.9])).std() * 255) for k in range(30)}
    assert stds == {1, 2, 3}
    assert np.array_equal(RandomNoise((0, 0))(image, Scripted(random=[0.0])), image)


@pytest.mark.parametrize("levels", [(3, 2), (-1, 2)])
def test_wrong_levels_are_refused(levels: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="levels must be"):
        RandomNoise(levels)

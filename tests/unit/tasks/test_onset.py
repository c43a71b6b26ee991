"""When the discriminator begins."""

import pytest
import torch

from calotype.tasks.base import Progress
from calotype.tasks.onset import AtFraction, AtPlateau, AtStep, Onset, OnsetConfig, onsets


def begins(onset: Onset, errors: list[float], total: int) -> int | None:
    """The first step at which it says that it has begun; afterwards it must go on saying the same."""
    first = None
    for step, error in enumerate(errors):
        begun = onset.begun(Progress(step, total), torch.tensor(error))
        if first is None and begun is not None:
            first = step
        assert (begun is None) == (first is None)
    return first


def curve(flat_from: int, n: int) -> list[float]:
    """Falls by 1 % per step until `flat_from`."""
    return [0.99 ** min(step, flat_from) for step in range(n)]


def test_at_a_step_and_at_a_fraction() -> None:
    assert begins(AtStep(30).build(), [1.0] * 100, 100) == 30
    assert begins(AtFraction(0.3).build(), [1.0] * 100, 100) == 30
    assert begins(AtFraction(1.0).build(), [1.0] * 100, 100) is None
    assert begins(AtStep(0).build(), [1.0] * 3, 3) == 0


@pytest.mark.parametrize(("window", "flat_from"), [(20, 100), (50, 100), (10, 7)])
def test_a_plateau_is_seen_when_two_windows_agree(window: int, flat_from: int) -> None:
    config = AtPlateau(window=window, tolerance=0.01, latest=1.0)
    found = begins(config.build(), curve(flat_from, 400), 400)
    assert found is not None
    # By brute force: the last step of the first window that is not better than the one before.
    means = [sum(curve(flat_from, 400)[k : k + window]) / window for k in range(0, 400, window)]
    wanted = next(k for k in range(1, len(means)) if means[k] > means[k - 1] * 0.99)
    assert found == (wanted + 1) * window - 1


def test_a_loss_that_keeps_falling_is_no_plateau_until_the_latest() -> None:
    falling = curve(400, 400)
    assert begins(AtPlateau(window=20, tolerance=0.01, latest=1.0).build(), falling, 400) is None
    assert begins(AtPlateau(window=20, tolerance=0.01, latest=0.75).build(), falling, 400) == 300


@pytest.mark.parametrize("stop", [0, 5, 19, 20, 33, 150])
def test_a_stop_changes_nothing(stop: int) -> None:
    config, errors = AtPlateau(window=20, tolerance=0.01), curve(60, 200)
    whole, before, after = config.build(), config.build(), config.build()
    told = [whole.begun(Progress(s, 200), torch.tensor(e)) for s, e in enumerate(errors)]
    parts = [before.begun(Progress(s, 200), torch.tensor(e)) for s, e in list(enumerate(errors))[:stop]]
    after.load_state_dict(before.state_dict())
    parts += [after.begun(Progress(s, 200), torch.tensor(e)) for s, e in list(enumerate(errors))[stop:]]
    assert parts == told


@pytest.mark.parametrize("name", [*onsets])
def test_every_onset_keeps_to_its_word(name: str) -> None:
    """Contract: once begun, always begun, since the same step; nothing is learned from the future."""
    config: OnsetConfig = onsets.create(name)
    onset = config.build()
    told = [onset.begun(Progress(s, 60_000), torch.tensor(1.0)) for s in range(0, 60_000, 60)]
    begun = [t for t in told if t is not None]
    assert begun and len(set(begun)) == 1
    assert told[0] is None and told[-1] is not None


def test_senseless_numbers_are_refused() -> None:
    for wrong in (
        lambda: AtStep(-1),
        lambda: AtFraction(1.5),
        lambda: AtPlateau(window=0),
        lambda: AtPlateau(tolerance=-1.0),
        lambda: AtPlateau(latest=2.0),
    ):
        with pytest.raises(ValueError, match="must"):
            wrong()

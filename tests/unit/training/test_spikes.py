"""The spike guard against norms whose law is known."""

import math

import pytest
import torch

from calotype.training.spikes import SpikeGuard, Spikes


def norms(n: int, spread: float = 0.2, level: float = 1.0, seed: int = 0) -> list[float]:
    z = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (level * torch.exp(spread * z)).tolist()


def test_ordinary_norms_pass() -> None:
    spikes = Spikes(SpikeGuard())
    assert not any(spikes.found(norm) for norm in norms(5000, spread=0.5))


def test_a_spike_is_left_out_and_leaves_no_trace() -> None:
    spikes = Spikes(SpikeGuard())
    for norm in norms(500):
        spikes.found(norm)
    before = spikes.state() | {"row": 0}
    assert spikes.found(50.0)
    assert spikes.state() | {"row": 0} == before
    assert not spikes.found(1.0)


def test_nothing_is_left_out_before_a_window_is_seen() -> None:
    spikes = Spikes(SpikeGuard(window=50))
    assert not any(spikes.found(norm) for norm in [*norms(49), 1e6])


def test_small_wobble_of_very_regular_norms_is_no_spike() -> None:
    spikes = Spikes(SpikeGuard(least=4.0))
    for norm in norms(500, spread=1e-4):
        spikes.found(norm)
    assert not spikes.found(3.9)
    assert spikes.found(4.2)


def test_a_new_level_is_accepted() -> None:
    """When a loss is switched on the norms rise for good: three steps are lost, no more."""
    spikes = Spikes(SpikeGuard(most=3))
    for norm in norms(500):
        spikes.found(norm)
    assert [spikes.found(norm) for norm in norms(300, level=100.0, seed=1)] == [True] * 3 + [False] * 297
    assert spikes.usual == pytest.approx(100.0, rel=0.1)


def test_the_running_means_are_those_of_the_logarithms() -> None:
    spikes, values = Spikes(SpikeGuard(window=400)), norms(400, spread=0.3)
    for norm in values:
        spikes.found(norm)
    logs = torch.tensor(values, dtype=torch.float64).log()
    assert math.log(spikes.usual) == pytest.approx(float(logs.mean()), abs=1e-9)
    assert spikes.state()["variance"] == pytest.approx(float(logs.var(correction=0)), rel=1e-9)


def test_a_stop_changes_nothing() -> None:
    values = [*norms(200), 40.0, 50.0, *norms(50, seed=2)]
    whole, first, second = Spikes(SpikeGuard()), Spikes(SpikeGuard()), Spikes(SpikeGuard())
    told = [whole.found(norm) for norm in values]
    parts = [first.found(norm) for norm in values[:201]]
    second.restore(first.state())
    assert parts + [second.found(norm) for norm in values[201:]] == told
    assert second.state() == whole.state()


def test_a_gradient_of_zero_is_no_error() -> None:
    assert not Spikes(SpikeGuard()).found(0.0)


@pytest.mark.parametrize("wrong", [{"sigmas": 0}, {"window": 1}, {"most": 0}, {"least": 0.5}])
def test_senseless_guards_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        SpikeGuard(**wrong)

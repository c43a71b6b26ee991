"""The order of the data: a bijection per epoch, independent of batch size, resumable from one integer."""

from collections import Counter

import numpy as np
import pytest

from calotype.data.order import BalancedOrder, Order


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 255, 256, 257, 1000, 1678, 2000])
def test_every_epoch_is_a_permutation(n: int) -> None:
    order = Order(3, n)
    for epoch in (0, 1, 17):
        assert sorted(order.permutation(epoch, np.arange(n))) == list(range(n))


def test_epochs_and_seeds_differ() -> None:
    a = Order(0, 500).permutation(0, np.arange(500))
    assert not np.array_equal(a, Order(0, 500).permutation(1, np.arange(500)))
    assert not np.array_equal(a, Order(1, 500).permutation(0, np.arange(500)))


@pytest.mark.parametrize("size", [1, 3, 16, 50])
def test_the_stream_does_not_depend_on_the_batch_size(size: int) -> None:
    order = Order(7, 37)
    ids = np.concatenate([order.batch(step, size)[0] for step in range(-(-150 // size))])[:150]
    ones = np.concatenate([order.batch(step, 1)[0] for step in range(150)])
    assert np.array_equal(ids, ones)


def test_a_batch_may_span_epochs_and_exceed_the_set() -> None:
    ids, epochs = Order(0, 3).batch(0, 16)
    assert len(ids) == 16 and epochs.tolist() == [k // 3 for k in range(16)]
    assert all(sorted(ids[k : k + 3]) == [0, 1, 2] for k in range(0, 15, 3))


def test_first_positions_are_uniform() -> None:
    """Which sample comes first in 4,000 epochs of 20: chi-squared, whose 99.9 % point at 19 degrees is 43.8."""
    order = Order(5, 20)
    first = np.array([order.permutation(e, np.arange(1))[0] for e in range(4000)])
    counts = np.bincount(first, minlength=20)
    assert ((counts - 200) ** 2 / 200).sum() < 43.8


def test_neighbours_are_not_kept_together() -> None:
    order = Order(2, 1000).permutation(0, np.arange(1000))
    assert (np.abs(np.diff(order)) == 1).mean() < 0.01


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Order(0, 0)


def test_no_size_up_to_2000_loses_a_sample() -> None:
    for n in range(1, 2001):
        ids = Order(n, n).permutation(n % 5, np.arange(n))
        assert np.array_equal(np.sort(ids), np.arange(n)), n


@pytest.mark.parametrize("n", [3, 5, 6, 9, 17, 37])
def test_every_position_is_uniform(n: int) -> None:
    """Which sample comes at each position in 2,000 epochs; no position's chi-squared is beyond its mean by 6 sigma."""
    order, counts = Order(11, n), np.zeros((n, n))
    for epoch in range(2000):
        counts[np.arange(n), order.permutation(epoch, np.arange(n))] += 1
    chi = ((counts - 2000 / n) ** 2 / (2000 / n)).sum(1)
    assert chi.max() < n - 1 + 6 * np.sqrt(2 * (n - 1))


def test_three_samples_come_in_all_six_orders() -> None:
    order = Order(0, 3)
    seen = Counter(tuple(order.permutation(e, np.arange(3)).tolist()) for e in range(3000))
    assert len(seen) == 6 and min(seen.values()) > 300


def test_a_late_step_costs_no_more_than_an_early_one() -> None:
    ids, epochs = Order(1, 10**12).batch(10**10, 64)
    assert len(set(ids.tolist())) == 64 and ids.max() < 10**12 and epochs.tolist() == [0] * 64


LABELS = [0] * 90 + [1] * 10 + [-1] * 3


def test_without_balance_it_is_the_plain_order() -> None:
    plain, order = Order(3, 103), BalancedOrder(3, LABELS)
    for step in range(30):
        for a, b in zip(plain.batch(step, 16), order.batch(step, 16), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(("balance", "times"), [(0.5, 3), (1.0, 9)])
def test_rare_classes_come_more_often(balance: float, times: int) -> None:
    order = BalancedOrder(3, LABELS, balance)
    n = 90 + 10 * times + 3
    ids, seen = order.batch(1, n)  # the second epoch
    assert np.array_equal(np.bincount(ids), [1] * 90 + [times] * 10 + [1] * 3)
    for i, label in enumerate(LABELS):  # each time is another one, so that it gets noise of its own
        repeats = times if label == 1 else 1
        assert sorted(seen[ids == i]) == list(range(repeats, 2 * repeats))


def test_nothing_to_balance() -> None:
    assert BalancedOrder(0, [-1] * 5, 1.0).repeats.tolist() == [1] * 5
    assert BalancedOrder(0, [2] * 5, 1.0).repeats.tolist() == [1] * 5

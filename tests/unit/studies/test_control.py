"""Everybody gets what another one wished for."""

import pytest
import torch

from calotype.studies.control import derangement, shuffled


@pytest.mark.parametrize("n", [2, 3, 8, 257])
def test_nobody_keeps_his_own(n: int) -> None:
    for seed in range(5):
        order = derangement(n, seed)
        assert sorted(order.tolist()) == [*range(n)]
        assert not (order == torch.arange(n)).any()


def test_it_depends_on_the_seed_alone() -> None:
    assert torch.equal(derangement(50, 3), derangement(50, 3))
    assert not torch.equal(derangement(50, 3), derangement(50, 4))


def test_one_has_nobody_to_exchange_with() -> None:
    with pytest.raises(ValueError, match="only be exchanged with another one, got 1"):
        derangement(1, 0)


def test_lists_and_tensors_are_shuffled_alike() -> None:
    order = derangement(6, 0)
    assert shuffled(torch.arange(6), order).tolist() == shuffled([*range(6)], order) == order.tolist()

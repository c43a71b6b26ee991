"""The average against its closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calotype.errors import UserError
from calotype.training.ema import EMA


def test_first_updates_follow_the_warm_up():
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(net.weight)
    ema, expected = EMA(net, 0.3), 0.0
    for n in range(1, 9):
        nn.init.constant_(net.weight, float(n))
        ema.update()
        d = min(0.3, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * n
        assert ema.tensors()["weight"].item() == pytest.approx(expected, rel=1e-14)
    assert EMA(net, 0.9999).decay == 0.9999
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        EMA(net, 1.0)


def test_constant_weights_with_full_decay():
    """From w_0 = 0 to constant w the average is (1 - prod d_k) w."""
    net = nn.Linear(2, 2).double()
    for p in net.parameters():
        nn.init.zeros_(p)
    ema, product = EMA(net, 0.9999), 1.0
    for p in net.parameters():
        nn.init.constant_(p, 3.0)
    for n in range(1, 200):
        ema.update()
        product *= (1 + n) / (10 + n)
    assert ema.tensors()["weight"].unique().item() == pytest.approx(3 * (1 - product), rel=1e-12)


def test_applied_restores_the_weights_bit_for_bit_even_after_an_error():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net[0].bias.requires_grad_(False)
    ema = EMA(net, 0.5)
    assert set(ema.tensors()) == {"0.weight", "1.weight", "1.bias"}
    nn.init.normal_(net[0].weight)
    ema.update()
    live = net[0].weight.clone()
    with pytest.raises(RuntimeError), ema.applied():
        assert torch.equal(net[0].weight, ema.tensors()["0.weight"]) and not torch.equal(net[0].weight, live)
        raise RuntimeError
    assert torch.equal(net[0].weight, live)


def test_restore():
    a, b = EMA(nn.Linear(3, 3), 0.9), EMA(nn.Linear(3, 3), 0.9)
    b.restore({k: v.clone() for k, v in a.tensors().items()}, 7)
    assert b.updates == 7 and torch.equal(a.tensors()["weight"], b.tensors()["weight"])
    for bad in ({}, {"weight": torch.zeros(3, 3), "bias": torch.zeros(4)}):
        with pytest.raises(UserError, match="does not fit"):
            a.restore(bad, 0)

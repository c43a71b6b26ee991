"""AdamW and its rate against their formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from calotype.errors import UserError
from calotype.registry import from_plain, to_plain
from calotype.training.optim import Constant, Cosine, Linear, OptimizerConfig, decays
from calotype.training.phase import Phase


@pytest.mark.parametrize("name", list(decays))
def test_decays_begin_at_one_never_rise_and_stay_in_range(name):
    decay = decays.create(name)
    values = [decay(i / 100) for i in range(101)]
    assert values[0] == 1.0
    assert all(0.0 <= b <= a for a, b in pairwise(values))
    assert from_plain(to_plain(OptimizerConfig(decay=decay)), OptimizerConfig).decay == decay


def test_rates():
    config = OptimizerConfig(lr=2.0, warmup_steps=4, decay=Cosine(floor=0.1))
    assert [OptimizerConfig(lr=2.0, warmup_steps=4).rate(s, 100) for s in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert config.rate(50, 100) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert config.rate(100, 100) == pytest.approx(0.2)
    assert config.rate(25, 100) == pytest.approx(2.0 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2))
    assert OptimizerConfig(lr=1.0, decay=Linear(start=0.5)).rate(75, 100) == 0.5
    assert OptimizerConfig(lr=1.0, decay=Constant()).rate(10**9, 0) == 1.0


def test_adamw_follows_its_equations():
    """m, v, bias correction, decoupled decay for matrices only, clipping; in double precision."""
    config = OptimizerConfig(lr=0.1, betas=(0.7, 0.95), eps=1e-6, weight_decay=0.2, clip_norm=0.8)
    net = nn.Linear(3, 2).double()
    phase = Phase("x", net, config, None)
    w = {n: p.detach().clone() for n, p in net.named_parameters()}
    m = {n: torch.zeros_like(p) for n, p in w.items()}
    v = {n: torch.zeros_like(p) for n, p in w.items()}
    x = torch.randn(8, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    for k in range(1, 6):
        rate = config.lr / k
        norm = phase.backward((net(x) ** 2).mean() * 3).item()
        grads = {n: p.grad.clone() for n, p in net.named_parameters()}
        assert norm == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in grads.values())))
        phase.step(norm, rate)
        for n, p in net.named_parameters():
            g = grads[n] * min(1.0, 0.8 / norm)
            m[n] = 0.7 * m[n] + 0.3 * g
            v[n] = 0.95 * v[n] + 0.05 * g * g
            if n == "weight":
                w[n] = w[n] * (1 - rate * 0.2)
            w[n] = w[n] - rate * (m[n] / (1 - 0.7**k)) / ((v[n] / (1 - 0.95**k)).sqrt() + 1e-6)
            torch.testing.assert_close(p.detach(), w[n], rtol=1e-12, atol=1e-14)


def test_bad_numbers_are_refused():
    for bad in (
        {"lr": 0.0},
        {"lr": math.inf},
        {"lr": math.nan},
        {"betas": (0.9, 1.0)},
        {"eps": 0.0},
        {"weight_decay": -1.0},
        {"warmup_steps": -1},
        {"clip_norm": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            OptimizerConfig(**bad)
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in bad.items()}
        with pytest.raises(UserError):
            from_plain(plain, OptimizerConfig)
    with pytest.raises(ValueError, match="floor"):
        Cosine(floor=2.0)
    with pytest.raises(ValueError, match="start"):
        Linear(start=1.0)
    with pytest.raises(ValueError, match="nothing to train"):
        OptimizerConfig().build([])

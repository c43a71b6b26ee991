"""Tables that end in pure noise, against the algorithm as printed."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import (
    DDIM,
    Cosine,
    Denoiser,
    Epsilon,
    Linear,
    Mixed,
    ScaledLinear,
    Schedule,
    UniformGrid,
    Velocity,
    ZeroTerminal,
)
from calotype.errors import UserError

F64 = torch.float64


def entries(curve):
    alpha, _ = Schedule(curve).at((torch.arange(curve.entries, dtype=F64) + 1) / curve.entries)
    return alpha


@pytest.mark.parametrize("table", [ScaledLinear(), Linear(), ScaledLinear(steps=7)], ids=str)
def test_every_entry_is_that_of_the_algorithm(table):
    r = (1 - table.betas()).cumprod(0).sqrt()
    assert torch.allclose(entries(ZeroTerminal(table)), (r - r[-1]) * r[0] / (r[0] - r[-1]), rtol=1e-9, atol=1e-15)


def test_stable_diffusions_values():
    abar = entries(ZeroTerminal()) ** 2
    assert abar[[0, 499, 998]].tolist() == pytest.approx([0.99915, 0.242359, 1.96789e-7], rel=5e-6)
    assert abar[999] == 0


def test_before_the_first_entry_the_table_is_as_it_was():
    t = torch.linspace(0, 1e-3, 11, dtype=F64)
    assert torch.equal(ZeroTerminal().logsnr(t), ScaledLinear().logsnr(t))


def test_is_continuous_at_the_first_entry():
    t = torch.tensor([1e-3 - 1e-12, 1e-3 + 1e-12], dtype=F64)
    assert ZeroTerminal().logsnr(t).diff().abs() < 1e-6


@pytest.mark.parametrize("p", [Epsilon(), Mixed()], ids=str)
def test_predictions_of_noise_are_refused(p):
    with pytest.raises(UserError, match=r"undefined at t = 1, where ZeroTerminal.* predict velocity or x0"):
        Denoiser(lambda x, time, cond: x, Schedule(ZeroTerminal()), p)


def test_velocity_samples_through_it():
    schedule = Schedule(ZeroTerminal())
    denoiser = Denoiser(lambda x, time, cond: 0.1 * x, schedule, Velocity())
    x = torch.ones(2, 1, 2, 2, dtype=F64)
    *_, last = DDIM()(lambda x, t: denoiser(x, t, None), x, UniformGrid()(schedule, 5), schedule, torch.zeros_like)
    assert last.x.isfinite().all()


def test_only_tables_are_rescaled():
    with pytest.raises(UserError, match=r"rescales a table of betas, got Cosine.*logsnr_min=None"):
        ZeroTerminal(Cosine())

"""Times at random, and grids against their formulas."""

from __future__ import annotations

import pytest
import torch

from calotype.diffusion import (
    Cosine,
    DiscreteTimes,
    Karras,
    LogSNRGrid,
    ScaledLinear,
    Schedule,
    StratifiedTimes,
    UniformGrid,
    UniformTimes,
)
from calotype.errors import UserError

F64 = torch.float64
SD = Schedule(ScaledLinear())


def noise_level(schedule: Schedule, times: torch.Tensor) -> torch.Tensor:
    alpha, sigma = schedule.at(times)
    return sigma / alpha


def test_uniform_times_are_u_but_never_an_end():
    u = torch.tensor([0.0, 0.5, 1 - 2.0**-24])
    t = UniformTimes()(u)
    assert torch.allclose(t, u.double(), atol=1e-7) and t[0] > 0 and t[-1] < 1


def test_stratified_times_lie_one_in_each_slice():
    t = StratifiedTimes()(torch.rand(16, generator=torch.Generator().manual_seed(0)))
    assert torch.equal((t * 16).floor(), torch.arange(16, dtype=F64))


def test_discrete_times_are_the_entries_of_the_table():
    t = DiscreteTimes(1000)(torch.tensor([0.0, 0.0004, 0.9999]))
    assert torch.allclose(t, torch.tensor([0.001, 0.001, 1.0], dtype=F64))
    assert SD.clock(t).round().tolist() == [0, 0, 999]


def test_uniform_grid_is_trailing():
    index = SD.clock(UniformGrid()(SD, 50)[:-1])
    assert torch.allclose(index, torch.arange(999, 0, -20, dtype=F64), atol=1e-9)


def test_karras_on_a_table_runs_from_its_last_entry_to_its_first():
    sigma = noise_level(SD, Karras()(SD, 10))
    low, high = 0.0291672, 14.6146
    expected = [(high ** (1 / 7) + i / 9 * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(10)]
    assert sigma[:-1].tolist() == pytest.approx(expected, rel=1e-4) and sigma[-1] == 0


def test_karras_reproduces_the_table_of_edm():
    schedule = Schedule(Cosine(None, None))
    sigma = noise_level(schedule, Karras(sigma_min=0.002, sigma_max=80.0)(schedule, 18))
    table = [80, 57.586, 40.786, 28.375, 19.352, 12.910, 8.401, 5.315, 3.257, 1.923, 1.088, 0.5854, 0.2964, 0.1395]
    assert sigma[:14].tolist() == pytest.approx(table, rel=2e-4)
    assert sigma[14:].tolist() == pytest.approx([0.0600, 0.0229, 0.00753, 0.002, 0], rel=2e-3)


def test_logsnr_grid_has_equal_steps_in_logsnr():
    steps = SD.logsnr(LogSNRGrid()(SD, 12)[:-1]).diff()
    assert torch.allclose(steps, steps[:1].expand(11), rtol=1e-9)


def test_wrong_fields_are_explained():
    with pytest.raises(UserError, match="rho > 0"):
        Karras(rho=0.0)
    with pytest.raises(UserError, match="sigma_min < sigma_max"):
        LogSNRGrid(sigma_min=2.0, sigma_max=1.0)
    with pytest.raises(UserError, match="the schedule has"):
        Karras(sigma_min=100.0, sigma_max=200.0)(SD, 5)
    with pytest.raises(UserError, match="at least 1 step"):
        DiscreteTimes(0)

"""Grids against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from calotype.diffusion import (
    Cosine,
    CurveGrid,
    Enlarged,
    Flow,
    Karras,
    Laplace,
    Leading,
    LinearPath,
    Linspace,
    LogNormal,
    LogSNRGrid,
    ScaledLinear,
    Schedule,
    Shifted,
    Trailing,
    UniformGrid,
    ZeroTerminal,
)
from calotype.errors import UserError

F64 = torch.float64
SD = Schedule(ScaledLinear())
OPEN = Schedule(Cosine(None, None))


def noise_level(schedule: Schedule, times: torch.Tensor) -> torch.Tensor:
    alpha, sigma = schedule.at(times)
    return sigma / alpha


def entries(schedule: Schedule, times: torch.Tensor) -> list[int]:
    index = schedule.clock(times[:-1])
    assert torch.allclose(index, index.round(), atol=1e-9)
    return index.round().long().tolist()


def test_uniform_grid_is_trailing():
    assert entries(SD, UniformGrid()(SD, 50)) == [*range(999, 0, -20)]
    assert torch.allclose(UniformGrid()(SD, 50), Trailing()(SD, 50), atol=1e-12)


def test_where_steps_do_not_divide_the_table_trailing_rounds_and_uniform_does_not():
    uniform, trailing = UniformGrid()(SD, 30), Trailing()(SD, 30)
    assert entries(SD, trailing)[:4] == [999, 966, 932, 899]
    assert (uniform - trailing).abs().max() <= 0.5001 / 1000 and not torch.allclose(uniform, trailing)


def test_leading_and_linspace():
    assert entries(SD, Leading(1)(SD, 50)) == [*range(981, 0, -20)]
    assert entries(SD, Leading()(SD, 30)) == [*range(29 * 33, -1, -33)]
    assert entries(SD, Linspace()(SD, 4)) == [999, 666, 333, 0]
    assert entries(SD, Linspace(skip_first=True)(SD, 3)) == [999, 666, 333]
    assert SD.clock(Linspace(rounded=False)(SD, 3)[:-1]).tolist() == pytest.approx([999, 499.5, 0])


def test_spacings_follow_a_table_into_its_wrappers():
    for curve in (Shifted(ScaledLinear(), -1.0), ZeroTerminal()):
        assert torch.equal(Trailing()(Schedule(curve), 50), Trailing()(SD, 50))


def test_karras_on_a_table_runs_from_its_last_entry_to_its_first():
    sigma = noise_level(SD, Karras()(SD, 10))
    low, high = 0.0291672, 14.6146
    expected = [(high ** (1 / 7) + i / 9 * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(10)]
    assert sigma[:-1].tolist() == pytest.approx(expected, rel=1e-4) and sigma[-1] == 0


@pytest.mark.parametrize("rho", [0.05, 1.0, 3.0, 50.0])
def test_karras_has_equal_steps_in_the_root_of_sigma(rho):
    sigma = noise_level(OPEN, Karras(rho=rho)(OPEN, 9))[:-1]
    assert sigma[[0, 8]].tolist() == pytest.approx([80, 0.002], rel=1e-9)
    steps = (sigma / 80 if rho < 1 else sigma).pow(1 / rho).diff()
    assert torch.allclose(steps, steps[:1].expand(8), rtol=1e-6)


def test_karras_and_logsnr_end_at_the_first_entry_of_a_table_whatever_its_length():
    for steps in (20, 1000, 4000):
        schedule = Schedule(ScaledLinear(steps=steps))
        for grid in (Karras(sigma_min=1e-6), LogSNRGrid(sigma_min=1e-6)):
            assert schedule.clock(grid(schedule, 5)[-2]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("grid", [Karras(), LogSNRGrid(), CurveGrid()], ids=str)
@pytest.mark.parametrize("curve", [Laplace(b=0.1), LogNormal(std=0.1)], ids=str)
def test_levels_that_no_two_times_can_tell_apart_are_refused(grid, curve):
    """Nearly all of such a curve's time is spent at one noise level; multistep samplers would divide by a step of 0."""
    with pytest.raises(UserError, match=r"20 steps .* too close together in the time of .*fewer steps"):
        grid(Schedule(curve), 20)


@pytest.mark.parametrize("rho", [1e-3, 1e17])
def test_an_extreme_rho_is_refused_in_words(rho):
    with pytest.raises(UserError, match="too close together"):
        Karras(rho=rho, sigma_max=1e30)(OPEN, 20)


def test_karras_reproduces_the_table_of_edm():
    sigma = noise_level(OPEN, Karras(sigma_min=0.002, sigma_max=80.0)(OPEN, 18))
    table = [80, 57.586, 40.786, 28.375, 19.352, 12.910, 8.401, 5.315, 3.257, 1.923, 1.088, 0.5854, 0.2964, 0.1395]
    assert sigma[:14].tolist() == pytest.approx(table, rel=2e-4)
    assert sigma[14:].tolist() == pytest.approx([0.0600, 0.0229, 0.00753, 0.002, 0], rel=2e-3)


def test_logsnr_grid_has_equal_steps_in_logsnr():
    steps = SD.logsnr(LogSNRGrid()(SD, 12)[:-1]).diff()
    assert torch.allclose(steps, steps[:1].expand(11), rtol=1e-9)


@pytest.mark.parametrize("schedule", [SD, OPEN, Schedule(Flow(), LinearPath())], ids=["table", "cosine", "flow"])
def test_its_own_curve_gives_the_uniform_grid(schedule):
    assert torch.allclose(CurveGrid(schedule.curve)(schedule, 7), UniformGrid()(schedule, 7), atol=1e-12)


def test_shifted_flow_gives_the_times_of_sd3():
    flow = Schedule(Flow(), LinearPath())
    t = UniformGrid()(flow, 10)
    times = CurveGrid(Shifted.by_timestep(Flow(), 3.0))(flow, 10)
    assert torch.allclose(times, 3 * t / (1 + 2 * t), atol=1e-12)
    assert times[[1, 5, 9]].tolist() == pytest.approx([0.9642857, 0.75, 0.25])


def test_a_laplace_model_is_sampled_at_the_levels_of_a_cosine():
    schedule = Schedule(Laplace())
    times = CurveGrid(Cosine())(schedule, 20)
    assert torch.allclose(schedule.logsnr(times[1:-1]), Cosine().logsnr(UniformGrid()(OPEN, 20)[1:-1]), atol=1e-6)


def test_levels_of_a_curve_are_cut_to_what_the_schedule_offers():
    times = CurveGrid(Cosine())(SD, 10)
    assert times[0].item() == pytest.approx(1) and (times.diff() < 0).all()
    with pytest.raises(UserError, match="no noise level in common"):
        CurveGrid(Cosine(-15.0, -10.0))(Schedule(Cosine(0.0, 5.0)), 10)


@pytest.mark.parametrize("grid", [Karras(sigma_max=math.inf), LogSNRGrid(sigma_max=math.inf)], ids=str)
def test_a_range_without_end_is_refused_where_there_is_no_signal(grid):
    for schedule in (OPEN, Schedule(ZeroTerminal())):
        with pytest.raises(UserError, match=r"no signal at t = 1.*finite sigma_max.*'uniform'"):
            grid(schedule, 10)
    assert grid(SD, 10)[0].item() == pytest.approx(1)


@pytest.mark.parametrize("grid", [Trailing(), Leading(), Linspace()], ids=str)
def test_tables_are_needed_and_have_only_so_many_entries(grid):
    with pytest.raises(UserError, match=r"entries of a table, and Cosine.* is none; take 'uniform'"):
        grid(OPEN, 10)
    with pytest.raises(UserError, match=r"21 steps were asked of a table with 20 entries.*takes 20 at most"):
        grid(Schedule(ScaledLinear(steps=20)), 21)
    table = Schedule(ScaledLinear(steps=20))
    assert sorted(entries(table, grid(table, 20))) == [*range(20)]


@pytest.mark.parametrize("grid", [Leading(offset=1), Leading(skip_first=True), Linspace(skip_first=True)], ids=str)
def test_entries_beyond_the_table_are_refused(grid):
    with pytest.raises(UserError, match=r"1000 steps .* do not fit on a table with 1000 entries.*'trailing'"):
        grid(SD, 1000)


def test_wrong_fields_are_explained():
    with pytest.raises(UserError, match="rho > 0"):
        Karras(rho=0.0)
    with pytest.raises(UserError, match="sigma_min < sigma_max"):
        LogSNRGrid(sigma_min=2.0, sigma_max=1.0)
    with pytest.raises(UserError, match="the schedule has"):
        Karras(sigma_min=100.0, sigma_max=200.0)(SD, 5)
    with pytest.raises(UserError, match="offset of at least 0"):
        Leading(-1)


def test_no_time_between_entries_is_asked_for_in_vain():
    with pytest.raises(UserError, match=r"21 steps were asked of a table with 20 entries.*take 20 at most"):
        UniformGrid()(Schedule(ScaledLinear(steps=20)), 21)


@pytest.mark.parametrize("factor", [1.5, 2, 4])
@pytest.mark.parametrize("schedule", [Schedule(), SD, OPEN, Schedule(Flow(), LinearPath())], ids=str)
def test_enlarged_multiplies_the_noise_levels_of_a_range(schedule, factor):
    """Within the schedule, Karras et al.'s grid of a range becomes that of factor times the range."""
    for grid in (Karras, LogSNRGrid):
        enlarged = Enlarged(grid(sigma_min=0.1, sigma_max=3.0), factor)(schedule, 12)
        wider = grid(sigma_min=0.1 * factor, sigma_max=3.0 * factor)(schedule, 12)
        assert torch.allclose(enlarged, wider, rtol=0, atol=1e-9)


def test_enlarged_flow_is_sd3s_timestep_shift():
    flow, t, a = Schedule(Flow(), LinearPath()), UniformGrid()(OPEN, 28), 3.0
    assert torch.allclose(Enlarged(UniformGrid(), a)(flow, 28), a * t / (1 + (a - 1) * t), rtol=0, atol=1e-12)


@pytest.mark.parametrize("curve", [Cosine(), Cosine(None, None), ScaledLinear(), Flow(), Laplace()], ids=str)
def test_enlarged_has_the_levels_that_a_model_trained_for_the_size_has(curve):
    """Simple diffusion's shifted schedule at equal steps in its own time, as far as this schedule goes."""
    shifted, enlarged = Shifted.by_side(curve, 256, 64), Enlarged(UniformGrid(), 4)(Schedule(curve), 50)
    assert torch.allclose(enlarged, CurveGrid(shifted)(Schedule(curve), 50), rtol=0, atol=1e-9)
    assert enlarged[0] == 1 and (enlarged[1:-1] > UniformGrid()(Schedule(curve), 50)[1:-1]).all()


def test_enlarged_by_nothing_is_the_grid_itself():
    for grid in (Karras(), Trailing()):
        assert torch.equal(Enlarged(grid, 1)(SD, 50), grid(SD, 50))


def test_enlarged_refuses_what_it_cannot_do():
    for factor in (0.5, math.nan, math.inf):
        with pytest.raises(UserError, match="a finite factor of at least 1"):
            Enlarged(factor=factor)
    with pytest.raises(UserError, match="take 'uniform'"):
        Enlarged(Trailing(), 2)(SD, 50)
    for schedule in (SD, Schedule()):
        with pytest.raises(UserError, match="choose a range that overlaps it"):
            Enlarged(factor=1e9)(schedule, 50)

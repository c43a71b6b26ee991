"""The members differ in schedule and loss alone; what is drawn of them; a study that goes on where it stopped."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from calotype.condition import Condition
from calotype.config import resolve
from calotype.diffusion.distance import MeanSquare, MultiScale
from calotype.diffusion.schedule import Schedule
from calotype.errors import UserError
from calotype.evaluation.runner import Spread
from calotype.registry import from_plain, to_plain
from calotype.studies.base import remembered, studies
from calotype.studies.schedule_shift import (
    LEVELS,
    Found,
    Member,
    ScheduleShift,
    drawings,
    noised_pictures,
    table,
)

T = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
FOUND = Found(
    4, *(Spread(v, 1.25) for v in (30.5, 10.0, 20.5, 5.0)), (0.2,) * len(LEVELS), (0.125,) * len(LEVELS), 60.0, "how"
)


def test_every_shift_is_tried_with_both_losses_and_none_twice() -> None:
    members = list(ScheduleShift(references=(64, 32)).members())
    assert len(members) == len(set(members)) == len({m.name for m in members}) == 10
    assert [(m.side, m.reference) for m in members if m.multi_scale] == [
        (m.side, m.reference) for m in members if not m.multi_scale
    ]
    assert Member(64, 64, False) not in members, "a shift by nothing"


def test_a_shift_is_that_of_the_paper() -> None:
    for member in ScheduleShift().members():
        away = Schedule(member.curve).logsnr(T) - Schedule(Member(64, None, False).curve).logsnr(T)
        assert torch.allclose(
            away, torch.tensor(2 * math.log((member.reference or member.side) / member.side)).double()
        )


def test_members_differ_in_nothing_but_size_schedule_and_loss() -> None:
    study = ScheduleShift()
    first = study.run_of(next(study.members()))
    for member in study.members():
        run = study.run_of(member)
        assert run.objective.distance == (MultiScale() if member.multi_scale else MeanSquare())
        same = replace(
            run,
            schedule=first.schedule,
            objective=replace(run.objective, distance=first.objective.distance),
            data=replace(run.data, side=first.data.side),
            network=first.network if member.side == 128 else run.network,
        )
        assert same == first


def test_a_side_costs_what_the_docstring_says() -> None:
    """Operations of one pass for one picture."""
    flops = {}
    for member in (Member(64, None, False), Member(128, None, False)):
        network = replace(ScheduleShift().run_of(member).network, in_channels=3, out_channels=3)
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network.build()(torch.zeros(1, 3, member.side, member.side), torch.zeros(1), Condition())
        flops[member.side] = counter.get_total_flops()
    assert flops[128] / flops[64] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("side", [64, 128])
def test_noise_fits_through_the_first_maps(side: int) -> None:
    network = ScheduleShift().run_of(Member(side, None, False)).network
    assert 3 * network.stem.factor**2 <= network.channels * network.multipliers[0]


def test_errors_are_measured_where_every_schedule_has_been() -> None:
    for member in ScheduleShift().members():
        low, high = Schedule(member.curve).logsnr(torch.tensor([1.0, 0.0], dtype=torch.float64)).tolist()
        assert low < min(LEVELS) and max(LEVELS) < high


def test_the_table_and_the_drawings_have_every_member() -> None:
    rows = [(m, FOUND) for m in ScheduleShift().members()]
    found = table(rows)
    assert [row[:3] for row in found.body][5] == ["128", "cosine", "multi-scale"]
    assert found.body[-1][3:6] == ["-2.77", "30.5 ±1.2", "20.5 ±1.2"]
    assert set(drawings(rows)) == {"logsnr-64", "logsnr-128", "error-64", "error-128"}
    assert "| 0.1250 |" in found.markdown()


def test_a_shift_leaves_as_much_noise_after_pooling() -> None:
    """What the sheet of noised pictures shows: pooled to the reference, the log-SNR is that of the reference."""
    x, eps = torch.zeros(1, 1, 128, 128), torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    for t in T.tolist():
        alpha, sigma = Schedule(Member(128, 32, False).curve).at(torch.tensor([t], dtype=torch.float64))
        noise = torch.nn.functional.avg_pool2d(x + float(sigma / alpha) * eps, 4).std()
        wanted = float(
            (-Schedule(Member(32, None, False).curve).logsnr(torch.tensor(t, dtype=torch.float64)) / 2).exp()
        )
        assert float(noise) == pytest.approx(wanted, rel=0.05)
    assert noised_pictures(128, (32,), 0).height > 3 * 64


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    assert remembered(file, Found, lambda: FOUND) == FOUND
    assert remembered(file, Found, lambda: pytest.fail("measured twice")) == FOUND
    assert from_plain(to_plain(FOUND), Found) == FOUND


@pytest.mark.parametrize(
    "wrong",
    ["steps=0", "sides=[]", "sides=[64,64]", "sides=[96]", "references=[0]", "references=[32,32]", "samples=2",
     "solver_steps=0", "seed=-1"],
)  # fmt: skip
def test_numbers_that_no_run_accepts_are_refused_at_once(wrong: str) -> None:
    with pytest.raises(UserError, match="must"):
        resolve(studies.create("schedule-shift"), None, [wrong])


@pytest.mark.slow
def test_the_whole_study_in_small(tmp_path: Path) -> None:
    study = ScheduleShift(steps=1, sides=(64,), references=(), samples=8, solver_steps=1)
    page = study.run(tmp_path)
    for name in ("table.md", "scores.json", "samples-64.png", "logsnr-64.png", "error-64.png", "noised.png"):
        assert (tmp_path / name).stat().st_size > 0, name
    assert "How much noise a size needs" in page.read_text("utf-8")
    with pytest.raises(UserError, match=re.escape("steps: was 1, now 2")):
        replace(study, steps=2).run(tmp_path)

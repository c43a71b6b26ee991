"""The border by hand, the trainings, tables and drawings; the study itself runs in tests/system."""

import math
from dataclasses import replace

import pytest

from calotype.config import resolve
from calotype.diffusion.grids import LogSNRGrid, UniformGrid
from calotype.diffusion.likelihood import Estimate
from calotype.errors import UserError
from calotype.evaluation.rate_distortion import RateDistortion
from calotype.evaluation.runner import Spread
from calotype.jobs.rate_distortion import Bound, Coded, FirstStage, Flow
from calotype.nn.stem import Convolution, Wavelet
from calotype.registry import from_plain, to_plain
from calotype.studies.base import studies
from calotype.studies.bits import DDPM, RATES, Row, border, border_level, curve_table, drawings, flow_table, table
from calotype.studies.border import at_rate, crossing, perceived, reached, settled
from calotype.studies.rate_distortion import RateDistortionStudy

RATE = (0.0, 1.0, 2.0, 4.0)
FALLING = (8.0, 4.0, 2.0, 1.0)


def estimate(mean: float) -> Estimate:
    return Estimate(mean, 0.01, 4)


def curve(values: tuple[float, ...] = FALLING) -> RateDistortion:
    spread = tuple(Spread(v, 0.5) for v in values)
    rate = tuple(estimate(r) for r in RATE)
    return RateDistortion(4, (64, 64), (1.0, 0.8, 0.4, 0.1), rate, values, spread, spread, "lite0", "how")


BOUND = Bound(estimate(0.1), estimate(3.9), estimate(0.25), estimate(4.25), True)
STAGE = FirstStage(1.25, 9.0, Spread(27.0, 1.0), Spread(3.0, 0.5))
FLOW = Flow(estimate(3.5), estimate(3.75), estimate(0.25))
PIXELS = Row("pixels", {"steps": 5}, Coded(1, curve(), (-8.0, -4.0, 0.0, 8.0), BOUND, None, FLOW))
LATENTS = Row("latents", {}, Coded(4, curve(), (-8.0, -4.0, 0.0, 8.0), replace(BOUND, discrete=False), STAGE, None))


@pytest.mark.parametrize(
    ("values", "level", "rate"),
    [
        (FALLING, 3.0, 1.5),  # half of the way from 4 at 1 bit to 2 at 2 bits
        (FALLING, 2.0, 2.0),
        (FALLING, 1.5, 3.0),
        (FALLING, 1.0, 4.0),
        (FALLING, 0.5, None),
        (FALLING, 8.0, 0.0),
        (FALLING, 9.0, 0.0),
        ((8.0, 2.0, 4.0, 1.0), 3.0, 2.0 + 2 / 3),  # below it once is not below it for good
    ],
)
def test_a_curve_is_below_a_level_from_a_rate_on(values: tuple[float, ...], level: float, rate: float | None) -> None:
    assert crossing(RATE, values, level) == (None if rate is None else pytest.approx(rate))
    assert reached(curve(values), level) == crossing(RATE, values, level)


@pytest.mark.parametrize(
    ("wanted", "value"), [(0.0, 8.0), (0.5, 6.0), (1.0, 4.0), (3.0, 1.5), (4.0, 1.0), (4.1, None), (-1.0, None)]
)
def test_a_curve_at_a_rate(wanted: float, value: float | None) -> None:
    assert at_rate(RATE, FALLING, wanted) == value


def test_a_rate_that_is_paid_twice_has_the_later_value() -> None:
    """At t = 1 nothing but the prior is paid; a schedule may pay nothing for its next step either."""
    assert at_rate((0.0, 0.0, 1.0), (8.0, 4.0, 2.0), 0.0) == 4.0


def test_the_fall_is_settled_when_a_twentieth_of_it_is_left() -> None:
    """From 8 to 1: 7 in all, 0.35 left at 1.35, which is 0.65 of the way from 2 at 2 bits to 1 at 4 bits."""
    assert settled(curve()) == pytest.approx(2 + 0.65 * 2)
    assert settled(curve((1.0, 1.0, 1.0, 1.0))) == 0.0
    assert settled(curve((1.0, 1.0, 1.0, 3.0))) == 0.0, "what rises has nothing to settle"


def test_without_a_perceptual_distance_there_is_no_border() -> None:
    with pytest.raises(ValueError, match="has no perceptual distance"):
        perceived(replace(curve(), perceptual=None))


def test_the_border_is_what_the_first_stage_leaves() -> None:
    """Its 3.0 is come to after 1.5 of 4 bits: 62 % lie behind. Its own model comes to it in the limit only."""
    level = border_level([PIXELS, LATENTS])
    assert level == 3.0 and border(PIXELS, level) == pytest.approx(1.5) and border(LATENTS, level) is None
    other = replace(LATENTS, found=replace(LATENTS.found, first_stage=replace(STAGE, perceptual=Spread(0.5, 0.1))))
    assert border(other, level) == pytest.approx(1.5)
    assert border_level([PIXELS]) is None and border(PIXELS, None) is None
    found = table([PIXELS, LATENTS], level)
    assert found.body[0][-2:] == ["1.500", "62%"] and found.body[1][-2:] == ["-", "-"]
    assert [row[0] for row in found.body] == ["pixels", "latents", "first stage of latents"]
    assert found.body[0][2:5] == ["4.000 ±0.010", "0.250", "4.250 ±0.010"]
    assert found.body[1][3:5] == ["-", "-"], "a density of latents is no number of bits"
    assert found.body[2][5:9] == ["1.250", "9.00", "27.00", "3.0000"]


def test_what_has_arrived_is_read_off_the_curve() -> None:
    found = curve_table([PIXELS, LATENTS])
    assert [row[1] for row in found.body] == ["3", "12", "48", "192", "768"], "bytes of 3 x 64 x 64 numbers"
    assert found.body[-1] == ["1/2", "768", "6.0", "6.000", "6.0", "6.000"] and len(found.body) == len(RATES)


def test_the_flow_has_a_table_where_it_was_measured() -> None:
    found = flow_table([PIXELS, LATENTS])
    assert found.body == [["pixels", "4", "3.500 ±0.010", "3.750 ±0.010", "0.250 ±0.010"]]
    assert not flow_table([LATENTS]).body


def test_drawings_show_models_first_stages_and_the_border() -> None:
    plots = drawings([PIXELS, LATENTS], 3.0)
    assert {*plots} == {"rate-rmse", "rate-perceptual", "rate-perceptual-log", "spent"}
    axes = plots["rate-perceptual"].figure.axes[0]
    assert [line.get_label() for line in axes.lines[:3]] == ["pixels", "latents", "first stage of latents"]
    assert axes.lines[2].get_xydata().tolist() == [[1.25, 3.0]]
    assert {*axes.lines[3].get_xdata()} == {1.5}, "the border"
    logarithmic = plots["rate-perceptual-log"].figure.axes[0]
    assert logarithmic.lines[0].get_xydata().tolist() == [[1.0, 4.0], [2.0, 2.0], [4.0, 1.0]], "no bit, no place"
    spent = plots["spent"].figure.axes[0].lines[0].get_xydata().tolist()
    assert spent == [[-8.0, 0.0], [-4.0, 25.0], [0.0, 50.0], [8.0, 100.0]]
    assert "DDPM, CIFAR-10" in plots["rate-rmse"].svg()
    assert len(drawings([PIXELS], None)) == 4


def test_the_published_curve_is_that_of_the_paper() -> None:
    """Its claim in section 4.3: the last tenth of the steps takes 93 % of the bits."""
    assert 1 - DDPM[1][0] / DDPM[0][0] == pytest.approx(0.93, abs=0.005)
    assert [r for r, _ in DDPM] == sorted((r for r, _ in DDPM), reverse=True)
    assert [d for _, d in DDPM] == sorted(d for _, d in DDPM)


def test_trainings_differ_in_nothing_but_the_space() -> None:
    study = RateDistortionStudy(steps=7, first_stage_steps=3, seed=2)
    pixels, latents, first = study.diffusion("pixels"), study.diffusion("first-stage"), study.first_stage()
    assert replace(latents, autoencoder="pixels", network=replace(latents.network, stem=Wavelet(2))) == pixels
    assert latents.network.stem == Convolution() and pixels.network.stem.factor == first.autoencoder.network.factor == 4
    assert pixels.conditioners == {} and first.autoencoder.build().channels == 3
    assert (pixels.trainer.steps, first.trainer.steps, pixels.trainer.seed, first.trainer.seed) == (7, 3, 2, 2)
    assert pixels.data.source == first.data.source == "embedded:fluent-people/train"


def test_a_study_is_its_own_description() -> None:
    words = ["runs=[a, b]", "coding.grid=uniform", "coding.steps=1000"]
    chosen = resolve(studies.create("rate-distortion"), None, words)
    assert chosen.runs == ("a", "b") and chosen.coding.grid == UniformGrid() and chosen.coding.steps == 1000
    assert RateDistortionStudy().coding.grid == LogSNRGrid()
    assert from_plain(to_plain(chosen)) == chosen


def test_what_was_measured_is_read_back_as_it_was() -> None:
    for row in (PIXELS, LATENTS):
        assert from_plain(to_plain(row.found), Coded) == row.found


@pytest.mark.parametrize(
    "wrong",
    [
        "steps=0",
        "first_stage_steps=0",
        "coding.steps=1",
        "coding.points=1",
        "coding.limit=1",
        "coding.flow=1",
        "coding.flow_steps=0",
    ],
)
def test_numbers_that_no_run_accepts_are_refused_at_once(wrong: str) -> None:
    with pytest.raises(UserError, match="must"):
        resolve(studies.create("rate-distortion"), None, [wrong])


def test_rates_that_are_shown_are_whole_bytes() -> None:
    assert all(math.log2(rate * 3 * 64 * 64 / 8) % 2 == pytest.approx(math.log2(3) % 2) for rate in RATES)

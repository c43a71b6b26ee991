"""What is compared with what; the table and the drawings; the whole study in small."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from calotype.config import resolve
from calotype.diffusion.guidance import ClassifierFree
from calotype.errors import UserError
from calotype.files import read_json
from calotype.registry import from_plain, to_plain
from calotype.studies.base import studies
from calotype.studies.guidance import (
    BEGINS,
    HELD,
    HELD_OUT,
    NO_CLASS,
    NOISELESS,
    POWERS,
    SPARING,
    UNGUIDED,
    GuidanceStudy,
    curve,
    drawings,
    table,
)
from calotype.studies.guided import Setting
from calotype.studies.yardstick import Likeness


def found(setting: Setting) -> Likeness:
    """Something of its own for every setting."""
    v = len(setting.way) + setting.scale
    return Likeness(8, v, v / 100, v / 200, v / 300, v / 400, v / 500)


ROWS = {setting: found(setting) for setting in GuidanceStudy().settings()}


def test_every_setting_has_a_file_of_its_own_and_lies_on_a_curve() -> None:
    assert len({setting.name for setting in ROWS}) == len(ROWS) == 2 + 5 + 5 + 5 + 4 + 3
    assert set(POWERS) | set(SPARING) == set(BEGINS)
    assert {setting for way in BEGINS for setting in curve(ROWS, way)} == set(ROWS)
    for way in BEGINS:
        powers = [setting.power for setting in curve(ROWS, way)]
        assert powers == sorted(powers) and len(set(powers)) == len(powers)


def test_what_a_setting_does() -> None:
    """The power that each is drawn at; that they are what they say is tested in `test_guided`."""
    for s in ROWS:
        if s.way == "classifier":
            assert (s.told, s.push, s.power, s.away, s.guidance) == (True, s.scale, s.scale + 1, 1, ClassifierFree(1.0))
        if s.way == "classifier alone":
            assert (s.told, s.push, s.power, s.away, s.guidance) == (False, s.scale, s.scale, 1, ClassifierFree(1.0))
        if s.way == "classifier-free":
            assert (s.told, s.push, s.power, s.away, s.guidance) == (True, 0, s.scale, 1, ClassifierFree(s.scale))
        if s.way == "autoguidance":
            assert (s.told, s.push, s.away, s.guidance) == (True, 0, s.scale, ClassifierFree(1.0))
        if s.way == "interval":
            assert isinstance(s.guidance, ClassifierFree) and s.guidance.interval is not None
            low, high = s.guidance.interval
            assert (math.exp(-high / 2), math.exp(-low / 2)) == pytest.approx(GuidanceStudy().interval)


def test_the_judge_knows_neither_noise_nor_the_other_classifier() -> None:
    study = GuidanceStudy(seed=3)
    judge, classifier, model = study.judge(), study.noisy_classifier(), study.diffusion()
    assert (classifier.schedule, classifier.time_sampler) == (model.schedule, model.objective.time_sampler)
    assert (judge.trainer.seed, classifier.trainer.seed, model.trainer.seed) == (4, 3, 3)
    _, sigma = NOISELESS.at(torch.linspace(0, 1, 11))
    assert sigma.max() <= 2 / 255 / math.sqrt(12) * 1.1, "what rounding to 8 bits does"
    assert judge.schedule == NOISELESS


def test_the_table_has_real_pictures_first() -> None:
    real = [Likeness(8, 10.0 + k, 0.8, 0.7, 0.9, 0.6, 0.875) for k in range(3)]
    lines = table(ROWS, real)
    assert lines.body[0] == ["real", "-", "11.0 ±1.0", "0.800 ±0.000", "0.700 ±0.000", "0.900 ±0.000", "0.600 ±0.000",
                             "0.875"]  # fmt: skip
    assert len(lines.body) == 1 + len(ROWS)
    assert ["classifier alone", "0.5", "16.5", "0.165", "0.083", "0.055", "0.041", "0.033"] in lines.body


def test_curves_are_drawn_from_no_guidance_on() -> None:
    plots = drawings(ROWS)
    assert set(plots) == {
        "frechet", "accuracy", "precision-recall", "sparing-frechet", "sparing-precision-recall"
    }  # fmt: skip
    lines = plots["frechet"].figure.axes[0].lines
    assert [line.get_label() for line in lines] == [*POWERS]
    for way, line in zip(POWERS, lines, strict=True):
        assert line.get_xydata().tolist() == [[s.power, ROWS[s].frechet] for s in curve(ROWS, way)]
    lines = plots["sparing-precision-recall"].figure.axes[0].lines
    assert lines[1].get_xydata().tolist() == [[ROWS[s].recall, ROWS[s].precision] for s in curve(ROWS, "interval")]
    names = [text.get_text() for text in plots["accuracy"].figure.axes[0].texts]
    pushes = ["0.5", "1", "2", "4", "8"]
    assert names[:-1] == ["0", "1", "1.5", "2", "3", "5", "8", "", *pushes, "", *pushes], "the last is the title"


def test_what_is_found_comes_back_from_its_file() -> None:
    for setting in (NO_CLASS, UNGUIDED):
        assert from_plain(to_plain(ROWS[setting]), Likeness) == ROWS[setting]


def test_as_many_pictures_are_held_out_as_it_says() -> None:
    from calotype.data.folder import open_source

    assert len(open_source(HELD_OUT)) == HELD


@pytest.mark.parametrize(
    "wrong",
    ["steps=0", "n=3", "n=1001", "sampling=0", "free=[1]", "free=[2,2]", "free=[-1]", "classifier=[0]",
     "limited=[1.0]", "away=[2000]", "interval=[2,1]", "interval=[0,1]", "seed=-1"],
)  # fmt: skip
def test_impossible_numbers_are_refused_at_once(wrong: str) -> None:
    with pytest.raises(UserError, match="must"):
        resolve(studies.create("guidance"), None, [wrong])


@pytest.mark.slow
def test_the_whole_study_in_small(tmp_path: Path) -> None:
    study = GuidanceStudy(steps=2, n=8, sampling=4, free=(3.0,), classifier=(2.0,), limited=(3.0,), away=(2.0,))
    page = study.run(tmp_path)
    assert "Fidelity against diversity" in page.read_text("utf-8")
    for name in ["table.md", *(f"{name}.png" for name in drawings(ROWS))]:
        assert (tmp_path / name).stat().st_size > 0, name
    for way in BEGINS:
        assert (tmp_path / f"samples-{way.replace(' ', '-')}.png").exists()
    rows = read_json(tmp_path / "scores.json")["rows"]
    assert len(rows) == 7 and len({row["found"]["frechet"] for row in rows}) == 7, "no two ways make the same"
    with pytest.raises(UserError, match=re.escape("n: was 8, now 9")):
        replace(study, n=9).run(tmp_path)

    # stopped, it goes on: what is there is not made again, and scales may be added
    before = (tmp_path / "table.md").read_text().splitlines()
    (tmp_path / "diffusion" / "rows" / "classifier-2.json").unlink()
    replace(study, free=(3.0, 4.0)).run(tmp_path)
    after = (tmp_path / "table.md").read_text().splitlines()
    assert [line for line in after if "| 4 |" not in line] == before
    assert len(after) == len(before) + 1

"""What is trained and measured, with a judge that is never wrong; the whole study in small."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from calotype.autoencoder.base import PixelSpace
from calotype.config import resolve
from calotype.data.folder import open_source
from calotype.data.subset import Subset
from calotype.errors import UserError
from calotype.evaluation.runner import Spread
from calotype.files import read_json
from calotype.generation.images import to_uint8
from calotype.model import LatentDiffusion
from calotype.recipes import get
from calotype.registry import to_plain
from calotype.studies import conditioning, finding
from calotype.studies.base import studies
from calotype.studies.bench import KNOWN, Bench, compared, completed
from calotype.studies.conditioning import HELD, HELD_OUT, TRAINING, ConditioningStudy, drawings_of, measured
from calotype.studies.enlargement import GAINED, shrunk
from calotype.studies.finding import Finding, Findings
from calotype.studies.segmenter import Segmenter
from calotype.studies.trials import JUDGE, TRIALS, Trial, mean_colour

N = 12


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spreads are tested elsewhere."""
    monkeypatch.setattr(finding, "DRAWS", 3)


class Oracle(Segmenter):
    """Knows what is in the scenes of the bench, whatever it is shown."""

    maps_of_all: Tensor

    @property
    def sha256(self) -> str:  # type: ignore[override]
        return "oracle"

    def maps(self, images: Tensor) -> Tensor:
        assert len(images) == len(self.maps_of_all)
        return self.maps_of_all


@cache
def bench() -> Bench:
    """Of real pictures alone: no model is there, and the first stage changes nothing."""
    study = ConditioningStudy(n=N)
    judge = Oracle(nn.Module(), ("background",))  # type: ignore[arg-type]
    found = Bench.of(
        study.runs(), (), no_model, judge, PixelSpace(), Subset(open_source(HELD_OUT), range(40), "40 scenes"),
        Subset(open_source(TRAINING), range(40), "40 others"), N, scales=(1.0,), sampling=2, seed=0,
    )  # fmt: skip
    judge.maps_of_all = found.label_maps
    return found


def no_model(task: str) -> LatentDiffusion:
    raise AssertionError(f"{task} was not to be asked")


def by_measure(findings: Findings) -> dict[str, Finding]:
    return {f.measure: f for f in findings.rows}


# --- what is trained ------------------------------------------------------------------------------------------------


def test_runs_are_the_recipes_on_scenes() -> None:
    study = ConditioningStudy()
    base = get("small-autoencoder-f4").build()
    assert study.autoencoder() == replace(base, data=replace(base.data, source=TRAINING, held_out=0.02))
    assert [*study.runs()] == [*study.tasks]
    for task, run in study.runs(Path("runs") / "first").items():
        base = get(f"small-{task}").build()
        data = replace(base.data, source="embedded:scenes/train")
        assert run == replace(base, data=data, autoencoder=str(Path("runs/first")))


def test_every_task_has_a_recipe_of_its_own() -> None:
    assert len(TRIALS) == 8
    conditioners = [tuple(run.conditioners) for run in ConditioningStudy().runs().values()]
    assert (
        len({(c, str(run.data)) for c, run in zip(conditioners, ConditioningStudy().runs().values(), strict=True)}) == 8
    )


def test_a_share_shortens_every_training() -> None:
    study = ConditioningStudy(share=0.01, seed=3)
    assert study.autoencoder().trainer.steps == get("small-autoencoder-f4").build().trainer.steps / 100
    for task, run in study.runs().items():
        assert run.trainer.steps == get(f"small-{task}").build().trainer.steps / 100
    assert study.judge().trainer.steps == 15
    seeds = [run.trainer.seed for run in (study.autoencoder(), study.judge(), *study.runs().values())]
    assert set(seeds) == {3}
    assert ConditioningStudy(share=1e-9).judge().trainer.steps == 1


@pytest.mark.parametrize(
    "wrong",
    ["share=0", "share=-1", "share=1000", "n=7", "n=513", "sampling=0", "scales=[]", "scales=[1,1]", "scales=[0]",
     "tasks=[]", "tasks=[layout,layout]", "tasks=[cats]", "seed=-1"],
)  # fmt: skip
def test_impossible_numbers_are_refused_at_once(wrong: str) -> None:
    with pytest.raises(UserError, match="must"):
        resolve(studies.create("conditioning"), None, [wrong])


def test_as_many_scenes_are_held_out_as_it_says() -> None:
    assert len(open_source(HELD_OUT)) == HELD


# --- what is measured -----------------------------------------------------------------------------------------------


def test_an_oracle_is_right_and_shuffled_wishes_are_not() -> None:
    rows = JUDGE.parts(bench())["found"]().rows
    assert {f.what for f in rows} == {"originals", "through the autoencoder"}
    for f in rows:
        assert f.found == Spread(1.0, 0.0) and f.real is None and f.n == N
        assert f.control is not None and f.control.mean < 0.8


def test_layouts_of_real_scenes() -> None:
    """Objects do not fill their boxes, but nothing else does."""
    b, trial = bench(), TRIALS["layout"]
    made = replace(b, load=no_model)
    object.__setattr__(made, "samples", lambda *_, **__: b.images)
    object.__setattr__(made, "wishes", lambda task: {})
    found = by_measure(trial.parts(made)["found"]())
    overlap, won = found["IoU with boxes"], found["boxes won by their class"]
    assert overlap.found == overlap.real and 0.5 < overlap.found.mean < 0.95
    assert won.found.mean > 0.9
    for f in (overlap, won):
        assert f.control is not None and f.control.mean < 0.35
    assert found["FD-lite0 to real pictures"].found.mean == pytest.approx(0, abs=1e-6)


def test_known_pixels_are_kept_to_the_last_bit() -> None:
    found = by_measure(TRIALS["inpainting"].parts(bench())["mean-colour"]())
    assert found["known values changed"].found == Spread(0.0, 0.0)
    distance = found["perceptual to original"]
    assert distance.real == Spread(0.0, 0.0) and distance.found.mean > 0.01
    assert found["pixel accuracy in holes"].found.mean == found["mIoU in holes"].found.mean == 1


def test_the_mean_colour_is_that_of_the_known_part() -> None:
    x, hole = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hole[..., :2] = True
    x[..., :2], x[0, :, :, 2:] = 9.0, torch.tensor([0.25, -0.5, 1.0])[:, None, None]
    filled = mean_colour(x, hole)
    assert filled.shape == x.shape and filled[0, :, 0, 0].tolist() == [0.25, -0.5, 1.0]


def test_samples_with_holes_get_their_known_pixels_back() -> None:
    x, y = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    hole = torch.rand(2, 1, 8, 8) < 0.5
    done = completed(y, {"image": [*x], "hole": [*hole]})
    assert torch.equal(torch.where(hole, y, x), done)
    assert completed(y, {"caption": ["", ""]}) is y


def test_bicubic_enlargement_is_measured_against_the_originals() -> None:
    found = by_measure(TRIALS["super-resolution"].parts(bench())["bicubic"]())
    psnr = found["PSNR, dB to originals"]
    assert psnr.real is not None and psnr.real.mean == 100, "the first stage changes nothing here"
    assert psnr.control is not None and psnr.control.mean < psnr.found.mean < 40
    again = found["PSNR of it made small to the wish"]
    assert again.real is not None and again.real.mean == 100 and again.found.mean > 25
    assert found["FD-lite0 to originals"].found.mean > 10
    assert found[GAINED].found == Spread(0.0, 0.0)


def test_perfect_enlargement_gains_all_that_bicubic_loses() -> None:
    made = replace(bench(), load=no_model)
    object.__setattr__(made, "samples", lambda *_, **__: made.images)
    parts = TRIALS["super-resolution"].parts(made)
    found, bicubic = (by_measure(parts[name]()) for name in ("model", "bicubic"))
    assert found["perceptual to originals"].found.mean == pytest.approx(0, abs=1e-6)
    assert found[GAINED].found == bicubic["perceptual to originals"].found


def test_what_is_shrunk_again_is_the_wish() -> None:
    data = ConditioningStudy().runs()["super-resolution"].data
    small = torch.stack(bench().asked(data, ("low_resolution",))["low_resolution"])
    assert data.degradation is not None
    assert torch.equal(to_uint8(shrunk(bench().images, data.degradation)), to_uint8(small))


def test_real_pictures_are_compared_with_others() -> None:
    b = bench()
    real = b.frechet("layout", "", b.images)
    assert real.found.mean == pytest.approx(0, abs=1e-6) and real.real is not None and real.real.mean > 1
    assert {k: v(torch.arange(N)) for k, v in compared(b.images, b.images).items()} == pytest.approx(
        {"PSNR, dB": 100, "SSIM": 1, "perceptual": 0}
    )
    assert set(KNOWN) <= set(b.known.wishes)


def test_the_parts_of_trials_depend_on_what_there_is() -> None:
    alone, both = replace(bench(), scales=(1.0, 2.5)), replace(bench(), trained=("captions", "super-resolution"))
    assert [*TRIALS["captions"].parts(alone)] == ["scale-1", "scale-2.5"]
    assert [*TRIALS["inpainting"].parts(alone)] == ["trained", "mean-colour"]
    assert [*TRIALS["inpainting"].parts(both)] == ["trained", "mean-colour", "training-free"]
    assert len(TRIALS["blind-super-resolution"].parts(alone)) == 6
    assert len(TRIALS["blind-super-resolution"].parts(both)) == 9


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    calls = []

    def part() -> Findings:
        calls.append(1)
        return Findings((Finding("a", "b", "c", Spread(0.5, 0.1), None, None, N),))

    trial = Trial("A", "B", lambda _: {"found": part})
    assert measured(trial, bench(), tmp_path) == measured(trial, bench(), tmp_path)
    assert calls == [1] and (tmp_path / "found" / f"oracle-n{N}-steps2" / "found.json").exists()


# --- what is written ------------------------------------------------------------------------------------------------


def test_curves_of_captions_have_a_point_for_each_scale() -> None:
    rows = [
        Finding("captions", f"scale {s:g}", m, Spread(s / 10 + k, 0), None, Spread(0.1, 0), N)
        for s in (1.0, 2.0, 5.0)
        for k, m in enumerate(("F1 of classes", "classes exactly", "main class", "FD-lite0 to real pictures"))
    ]
    plots = drawings_of(rows)
    (line,) = plots["captions-trade-off"].figure.axes[0].lines
    assert line.get_xydata().tolist() == [[s / 10, s / 10 + 3] for s in (1, 2, 5)]
    lines = plots["captions-scale"].figure.axes[0].lines
    assert [each.get_label() for each in lines] == [
        "F1 of classes",
        "classes exactly",
        "main class",
        "F1, wishes shuffled",
    ]
    assert lines[3].get_xydata().tolist() == [[1, 0.1], [2, 0.1], [5, 0.1]]


@pytest.mark.slow
def test_the_whole_study_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditioning, "TRAINING", HELD_OUT)  # an eighth of the pictures to be encoded
    study = ConditioningStudy(share=1 / 1200, n=8, sampling=2, scales=(1.0, 3.0))
    page = study.run(tmp_path)
    assert "Control, measured" in page.read_text("utf-8")
    for name in ["table.md", "captions-trade-off.png", "captions-scale.png", *(f"{task}.png" for task in TRIALS)]:
        assert (tmp_path / name).stat().st_size > 0, name
    rows = read_json(tmp_path / "scores.json")["rows"]
    assert {row["task"] for row in rows} == {"judge", *TRIALS}
    kept = [row for row in rows if row["measure"] == "known values changed"]
    assert len(kept) == 3 and all(row["found"]["mean"] == 0 for row in kept)
    with pytest.raises(UserError, match="seed: was 0, now 1"):
        replace(study, seed=1).run(tmp_path)

    # stopped, it goes on: what is there is not made again; scales may be added, and tasks left out
    before = (tmp_path / "table.md").read_text().splitlines()
    (gone,) = tmp_path.glob("semantic/found/*/found.json")
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/found/*/*.json")}
    gone.unlink()
    replace(study, scales=(1.0, 3.0, 4.0), tasks=("captions", "semantic")).run(tmp_path)
    after = (tmp_path / "table.md").read_text().splitlines()
    assert [line for line in after if "| scale 4 |" not in line] == [
        line for line in before if line.startswith(("| task ", "| --- ", "| judge ", "| captions ", "| semantic "))
    ]
    assert [file for file, stamp in stamps.items() if file.stat().st_mtime_ns != stamp] == [gone]
    assert to_plain(study) != read_json(tmp_path / "study.json")

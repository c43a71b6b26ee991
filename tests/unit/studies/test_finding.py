"""Numbers of sets of pictures, their spreads, and how they are written down."""

import pytest
import torch

from calotype.evaluation.frechet import Moments
from calotype.evaluation.runner import Spread
from calotype.files import read_json, write_json
from calotype.registry import from_plain, to_plain
from calotype.studies.finding import Finding, Findings, Frechet, Ratio, cell, compact, spread, table

EVERYTHING = torch.arange(4)


def test_a_ratio_is_one_of_sums() -> None:
    ratio = Ratio(torch.tensor([[1], [0], [3], [0]]), torch.tensor([[2], [0], [3], [5]]))
    assert ratio(EVERYTHING) == 4 / 10
    assert ratio(torch.tensor([0, 0, 2])) == 5 / 7
    assert ratio(torch.tensor([1])) == 0, "nothing to be right about"


def test_columns_that_are_empty_do_not_count() -> None:
    ratio = Ratio(torch.tensor([[1, 0, 2]]), torch.tensor([[1, 0, 4]]))
    assert ratio(torch.tensor([0])) == (1 + 0.5) / 2


def test_the_mean_of_values_has_the_standard_error_of_a_mean() -> None:
    values = torch.linspace(0, 1, 400)
    found = spread(Ratio.mean(values), 400)
    assert found.mean == pytest.approx(0.5)
    assert found.std == pytest.approx(float(values.std()) / 20, rel=0.3)
    assert spread(Ratio.mean(torch.ones(9)), 9) == Spread(1.0, 0.0)


def test_a_frechet_distance_is_that_of_all_not_of_the_choices() -> None:
    f = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).double()
    found = spread(Frechet(f, Moments.of(f)), 64)
    assert found.mean == pytest.approx(0, abs=1e-9) and 0 < found.std < 1


def test_findings_come_back_from_their_file(tmp_path: object) -> None:
    rows = (
        Finding.of("layout", "", "IoU", Ratio.mean(torch.eye(3)[0]), n=3),
        Finding("captions", "scale 1", "F1", Spread(0.5, 0.1), Spread(0.9, 0.01), Spread(0.2, 0.1), 8),
    )
    found = Findings(rows)
    file = f"{tmp_path}/found.json"
    write_json(file, to_plain(found))
    assert from_plain(read_json(file), Findings) == found


def test_the_table_says_what_there_is_and_what_not() -> None:
    lines = table([Finding("layout", "", "IoU", Spread(0.51234, 0.01), None, Spread(12.345, 1.0), 256)])
    assert lines.body == [["layout", "-", "IoU", "0.512 ±0.010", "-", "12.35 ±1.00", "256"]]
    several = [Finding("blind", w, m, Spread(0.5, 0), None, None, 8) for w, m in (("a", "x"), ("b", "x"), ("b", "y"))]
    side_by_side = compact(several)
    assert [*side_by_side.head] == ["what", "x", "y"]
    assert side_by_side.body == [["a", "0.500 ±0.000", "-"], ["b", "0.500 ±0.000", "0.500 ±0.000"]]
    assert cell(Spread(1200.04, 33.3)) == "1200.0 ±33.3"

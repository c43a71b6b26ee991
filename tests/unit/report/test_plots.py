"""Drawings: what they hold, that they fit into one page, and that nothing of matplotlib leaks."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from calotype.report.plots import Plot, Point, histogram, loss_curves, smooth, trade_off

RECORDS = [
    {"step": k, "loss": 1 / k, "denoise/l1": 0.5 + 0.01 * (-1) ** k, "note": "text", "flag": True}
    for k in range(1, 200)
]


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in parse(svg).iter() if e.tag.endswith("text")]


def test_one_drawing_per_number() -> None:
    plots = loss_curves(RECORDS)
    assert [p.title for p in plots] == ["loss", "denoise/l1"]
    assert "denoise/l1" in texts(plots[1].svg()) and "0.5" in texts(plots[1].svg())
    assert [p.title for p in loss_curves(RECORDS, ["denoise/l1"], labels={"denoise/l1": "L1"})] == ["L1"]


def test_gaps_and_non_finite_values_are_left_out() -> None:
    records = [{"step": 1, "a": 1.0}, {"step": 2}, {"step": 3, "a": math.nan}, {"step": 4, "a": 3.0, "b": math.inf}]
    plots = loss_curves(records)
    assert [p.title for p in plots] == ["a"]
    plots[0].svg()
    assert loss_curves([]) == [] and loss_curves(records, ["b", "missing"]) == []


def test_a_single_point_can_be_drawn() -> None:
    (plot,) = loss_curves([{"step": 10, "loss": 0.5}])
    assert all(line.get_xydata().tolist() == [[10, 0.5]] for line in plot.figure.axes[0].lines)
    assert plot.figure.axes[0].lines and "<svg" in plot.svg()


def test_logarithmic_axis_where_it_helps() -> None:
    wide, narrow = loss_curves(RECORDS)
    assert wide.figure.axes[0].get_yscale() == "log" and narrow.figure.axes[0].get_yscale() == "linear"
    assert loss_curves(RECORDS, ["loss"], log=False)[0].figure.axes[0].get_yscale() == "linear"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80), st.integers(1, 20))
def test_smoothing_is_a_mean(values: list[float], width: int) -> None:
    course = smooth(values, width)
    assert len(course) == len(values)
    assert all(min(values) - 1e-6 <= v <= max(values) + 1e-6 for v in course)


def test_smoothing_keeps_lines_and_does_not_lag() -> None:
    line = [3.0 * k + 1 for k in range(60)]
    assert smooth(line, 5)[5:-5] == pytest.approx(line[5:-5])
    assert smooth([2.0] * 40, 7) == pytest.approx([2.0] * 40)
    assert smooth([0, 0, 0, 1, 0, 0, 0], 2) == pytest.approx([0, 0, 0.25, 0.5, 0.25, 0, 0])


def test_histogram_shows_shares_that_sum_to_one() -> None:
    plot = histogram(
        {"a": [1, 2, 2, 3], "b": [2.5] * 7 + [math.nan]}, title="T", xlabel="x", marks={"limit": 2.2}, bins=4
    )
    heights = [p.get_data().values for p in plot.figure.axes[0].patches]
    assert [float(h.sum()) for h in heights] == pytest.approx([100] * 4)  # filled and outlined, twice
    assert heights[0].tolist() == [25, 0, 50, 25]
    shown = texts(plot.svg())
    assert "a (4)" in shown and "b (7)" in shown and "limit" in shown and "T" in shown


def test_histogram_of_one_value_and_of_none() -> None:
    histogram({"a": [3.0, 3.0], "empty": []}, title="T", xlabel="x").svg()
    with pytest.raises(ValueError, match="nothing to draw"):
        histogram({"a": [math.nan]}, title="T", xlabel="x")


def test_drawings_share_a_page_without_clashing_names() -> None:
    plots = [*loss_curves(RECORDS), histogram({"a": [1, 2, 3]}, title="T", xlabel="x")]
    names = [re.findall(r'\bid="([^"]+)"', p.svg()) for p in plots]
    flat = [n for ns in names for n in ns]
    assert len(flat) == len(set(flat))
    for plot, defined in zip(plots, names, strict=True):
        used = re.findall(r'(?:url\(#|href="#)([^")]+)', plot.svg())
        assert set(used) <= set(defined)


def test_svg_is_reproducible_self_contained_and_follows_the_page() -> None:
    a, b = loss_curves(RECORDS)[0].svg(), loss_curves(RECORDS)[0].svg()
    assert a == b and a.startswith("<svg") and a.rstrip().endswith("</svg>")
    assert "var(--ink" in a and "var(--series-1" in a
    assert "<metadata" not in a and "<!DOCTYPE" not in a
    assert set(re.findall(r'https?://[^"\s]+', a)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert re.match(r'<svg [^>]*viewBox="0 0 [\d.]+ [\d.]+"[^>]*>', a) and not re.match(r"<svg [^>]*\swidth=", a)


def test_labels_are_escaped() -> None:
    name = '<script>"&$x^2$'
    svg = loss_curves([{"step": 1, name: 1.0}, {"step": 2, name: 2.0}])[0].svg()
    assert "<script>" not in svg and name in texts(svg)
    assert parse(svg).get("aria-label") == name


def test_png(tmp_path: Path) -> None:
    plot: Plot = loss_curves(RECORDS)[0]
    plot.save_png(tmp_path / "a" / "plot.png", dpi=100)
    with Image.open(tmp_path / "a" / "plot.png") as image:
        assert image.size == (380, 240)


def test_nothing_of_matplotlib_leaks() -> None:
    import matplotlib
    from matplotlib import _pylab_helpers

    before = dict(matplotlib.rcParams)
    loss_curves(RECORDS)[0].svg()
    assert dict(matplotlib.rcParams) == before
    assert not _pylab_helpers.Gcf.get_all_fig_managers()


def test_a_trade_off_shows_every_finite_point_by_name() -> None:
    series = {
        "KL": [Point(0.1, 20.0, "f = 16"), Point(1.0, 30.0, "f = 4")],
        "VQ": [Point(0.05, 18.0, "16"), Point(math.nan, 1.0, "lost")],
    }
    plot = trade_off(series, title="Rate and distortion", xlabel="bits per pixel", ylabel="PSNR, dB", log_x=True)
    written = texts(plot.svg())
    assert {"KL", "VQ", "f = 16", "f = 4", "16", "bits per pixel", "PSNR, dB", "Rate and distortion"} <= set(written)
    assert "lost" not in written
    axes = plot.figure.axes[0]
    assert axes.get_xscale() == "log" and axes.lines[0].get_xydata().tolist() == [[0.1, 20.0], [1.0, 30.0]]
    with pytest.raises(ValueError, match="no finite point"):
        trade_off({"KL": []}, title="t", xlabel="x", ylabel="y")


@pytest.mark.parametrize(
    ("log_x", "place", "side"), [(False, 6.0, "right"), (False, 4.0, "left"), (True, 4.0, "right")]
)
def test_a_mark_is_labelled_where_there_is_room(log_x: bool, place: float, side: str) -> None:
    """Points from 1 to 9: the middle is 5, on a logarithmic axis 3. Beyond it a label stands left of its line."""
    points = {"KL": [Point(1.0, 20.0), Point(9.0, 30.0)]}
    plot = trade_off(points, title="t", xlabel="x", ylabel="y", log_x=log_x, marks={"border": place})
    axes = plot.figure.axes[0]
    (label,) = (text for text in axes.texts if text.get_text() == "border")
    assert label.get_ha() == side and {*axes.lines[-1].get_xdata()} == {place}
    assert "border" not in texts(trade_off(points, title="t", xlabel="x", ylabel="y").svg())

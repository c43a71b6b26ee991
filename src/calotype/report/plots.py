"""Curves and histograms in one quiet style, for the report (inline SVG) and for documents (PNG).

In SVG the colours are variables of the page's style sheet, so a drawing follows the light or dark setting. No state of
matplotlib is touched outside: figures are made without pyplot, settings hold inside `_style` only.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.generation.images import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, RULE = "#26211d", "#7b726a", "#e2dcd3"
SERIES = ("#a2492a", "#2d6f76", "#b5862c", "#5c609a")
_VARIABLES = {INK: "--ink", QUIET: "--quiet", RULE: "--rule"} | {c: f"--series-{k}" for k, c in enumerate(SERIES, 1)}


@dataclass(frozen=True, eq=False)
class Plot:
    """A finished drawing.

    Args:
        title: what it shows; also its description for those who cannot see it.
        figure: the matplotlib figure.
    """

    title: str
    figure: Figure

    def svg(self) -> str:
        """An <svg> element to be put into a page: the same text for the same drawing, no outside references."""
        text = self._draw("svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}).decode()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
        # Matplotlib numbers its elements ("line2d_7"), alike in every figure: in one page they would clash. What is
        # referred to has names of another kind, made from the content.
        text = re.sub(r' id="[A-Za-z][\w.]*_\d+"', "", text)
        for colour, name in _VARIABLES.items():
            text = text.replace(colour, f"var({name}, {colour})")
        head, _, rest = text.partition(">")
        head = re.sub(r'\s(width|height)="[^"]*"', "", head)
        label = self.title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        return f'{head} role="img" aria-label="{label}">{rest}'

    def save_png(self, path: Path | str, dpi: int = 160) -> None:
        """Write the drawing on white; the file appears whole or not at all."""
        write_bytes(path, self._draw("png", dpi=dpi, facecolor="white"))

    def _draw(self, kind: str, **options: Any) -> bytes:
        data = io.BytesIO()
        # The salt makes the names of clip paths differ between drawings of one page, and equal between runs.
        with _style(salt=hashlib.sha256(self.title.encode()).hexdigest()[:8]):
            self.figure.savefig(data, format=kind, transparent=kind == "svg", **options)
        return data.getvalue()


def loss_curves(
    records: Sequence[Mapping[str, Any]],
    names: Sequence[str] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    log: bool | None = None,
) -> list[Plot]:
    """One drawing per scalar: every value pale, the smoothed course strong, its last value at the top.

    Args:
        records: the lines of metrics.jsonl, each with "step"; a scalar may be missing from some.
        names: which scalars, in this order; all numeric ones if None.
        labels: name -> what to write instead.
        log: logarithmic axis; None decides by the values (positive, and spread over more than a decade).

    Scalars without a finite value are left out.
    """
    if names is None:
        names = list(dict.fromkeys(k for r in records for k, v in r.items() if _finite(v) and k != "step"))
    plots = []
    for k, name in enumerate(names):
        points = [
            (float(r["step"]), float(r[name])) for r in records if _finite(r.get(name)) and _finite(r.get("step"))
        ]
        if points:
            label = (labels or {}).get(name, name)
            plots.append(_curve(label, [x for x, _ in points], [y for _, y in points], SERIES[k % len(SERIES)], log))
    return plots


def histogram(
    values: Mapping[str, Sequence[float]],
    *,
    title: str,
    xlabel: str,
    marks: Mapping[str, float] | None = None,
    bins: int | None = None,
) -> Plot:
    """Distributions over common bins, as shares, so that sets of different sizes can be compared.

    Args:
        values: what they are -> the values; non-finite ones are left out.
        title: what the drawing shows.
        xlabel: quantity and unit.
        marks: label -> a place on the axis, drawn as a dashed line.
        bins: number of bins; None lets it grow with the cube root of the smallest set.

    Raises:
        ValueError: no finite value at all.
    """
    sets = {name: [float(v) for v in vs if _finite(v)] for name, vs in values.items()}
    everything = [v for vs in sets.values() for v in vs] + list((marks or {}).values())
    if not any(sets.values()):
        raise ValueError(f"nothing to draw in {title!r}: no finite value")
    low, high = min(everything), max(everything)
    if bins is None:
        bins = max(12, min(48, round(3.3 * min(len(vs) for vs in sets.values() if vs) ** (1 / 3))))
    width = (high - low) / bins or 1.0
    edges = [low + k * width for k in range(bins + 1)]
    with _panel(title, 5.6, 2.9) as (figure, axes):
        for k, (name, vs) in enumerate(sets.items()):
            colour = SERIES[k % len(SERIES)]
            counts = [0] * bins
            for v in vs:
                counts[min(bins - 1, int((v - low) / width))] += 1
            shares = [100 * c / max(1, len(vs)) for c in counts]
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.18, linewidth=0)
            axes.stairs(shares, edges, color=colour, linewidth=1.4, label=f"{name} ({len(vs):,})")
        axes.set_ylim(0, 1.14 * axes.get_ylim()[1])
        _marks(axes, marks or {}, low + 0.5 * (high - low))
        axes.set_xlabel(xlabel)
        axes.yaxis.set_major_formatter(_ticks(lambda y: f"{y:g} %"))
        _legend(axes, figure, len(sets))
        _title(axes, figure, title, 27)
    return Plot(title, figure)


@dataclass(frozen=True)
class Point:
    """A named place in a `trade_off`."""

    x: float
    y: float
    name: str = ""


def trade_off(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    marks: Mapping[str, float] | None = None,
) -> Plot:
    """What one thing costs in terms of another: named points, joined within each series in the order given.

    Args:
        series: what they are -> the points; those that are not finite are left out.
        title: what the drawing shows.
        xlabel, ylabel: quantities and units.
        log_x: logarithmic horizontal axis with a tick at every doubling; x must be positive then.
        marks: label -> a place on the horizontal axis, drawn as a dashed line.

    Raises:
        ValueError: no finite point at all.
    """
    sets = {name: [p for p in points if _finite(p.x) and _finite(p.y)] for name, points in series.items()}
    if not any(sets.values()):
        raise ValueError(f"nothing to draw in {title!r}: no finite point")
    with _panel(title, 5.6, 3.4) as (figure, axes):
        for k, (name, points) in enumerate(sets.items()):
            colour = SERIES[k % len(SERIES)]
            x, y = [p.x for p in points], [p.y for p in points]
            axes.plot(x, y, "o-", color=colour, linewidth=1.2, markersize=4.5, label=name)
            for p in points:
                axes.annotate(p.name, (p.x, p.y), (5, 4), textcoords="offset points", fontsize=8, color=colour)
        if log_x:
            axes.set_xscale("log", base=2)
        axes.margins(x=0.06, y=0.12)
        places = sorted([p.x for points in sets.values() for p in points] + list((marks or {}).values()))
        low, high = places[0], places[-1]
        _marks(axes, marks or {}, math.sqrt(low * high) if log_x else 0.5 * (low + high))
        axes.xaxis.set_major_formatter(_ticks(lambda v: f"{v:.3g}" if abs(v) < 1 else f"{v:g}"))
        axes.yaxis.set_major_formatter(_ticks(lambda v: f"{v:g}"))
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        _legend(axes, figure, len(sets))
        _title(axes, figure, title, 27)
    return Plot(title, figure)


def smooth(values: Sequence[float], width: int | None = None) -> list[float]:
    """Centred triangular mean, which does not lag; the window is cut off at the ends.

    Args:
        values: equally spaced.
        width: half of the window's base; None takes a thirtieth of the length.
    """
    n = len(values)
    width = max(1, n // 30) if width is None else max(1, width)
    out = []
    for i in range(n):
        window = range(max(0, i - width + 1), min(n, i + width))
        weights = [width - abs(j - i) for j in window]
        out.append(math.fsum(w * values[j] for w, j in zip(weights, window, strict=True)) / sum(weights))
    return out


def _marks(axes: Axes, marks: Mapping[str, float], middle: float) -> None:
    """Dashed lines, each with its label on the side where there is room: the left one beyond `middle`."""
    for label, x in marks.items():
        axes.axvline(x, color=INK, linewidth=1, linestyle=(0, (3, 3)))
        side = -1 if x > middle else 1
        axes.annotate(
            label, (x, 1.0), (5 * side, -1), xycoords=axes.get_xaxis_transform(), textcoords="offset points",
            ha="left" if side > 0 else "right", va="top", fontsize=8.5,
        )  # fmt: skip


def _curve(label: str, x: list[float], y: list[float], colour: str, log: bool | None) -> Plot:
    course = smooth(y)
    if log is None:
        log = min(y) > 0 and max(course) > 10 * min(course)
    with _panel(label, 3.8, 2.4) as (figure, axes):
        if len(x) == 1:
            axes.plot(x, y, "o", color=colour, markersize=4)
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.28)
        axes.plot(x, course, color=colour, linewidth=1.8)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(_ticks(lambda _: ""))
        axes.yaxis.set_major_formatter(_ticks(lambda v: f"{v:g}"))
        axes.xaxis.set_major_formatter(_ticks(_thousands))
        axes.set_xlabel("step")
        axes.set_title(f"{course[-1]:.3g}", loc="right", color=colour, fontsize=10.5, pad=10)
        _title(axes, figure, label, 10)
    return Plot(label, figure)


@contextmanager
def _panel(title: str, width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    with _style(salt=title):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.add_subplot()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # or every further drawing would move things by a hair


@contextmanager
def _style(salt: str) -> Iterator[None]:
    import matplotlib  # late: half a second to import

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "text.parse_math": False,
        "axes.edgecolor": RULE,
        "axes.labelcolor": QUIET,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": RULE,
        "grid.linewidth": 0.7,
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": QUIET,
        "ytick.labelcolor": QUIET,
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "xtick.major.size": 3,
        "axes.xmargin": 0.01,
        "lines.solid_capstyle": "round",
        "lines.solid_joinstyle": "round",
    }
    with matplotlib.rc_context(settings):
        yield


def _legend(axes: Axes, figure: Figure, columns: int) -> None:
    """One line between title and drawing, at the figure's left edge."""
    handles = axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), bbox_transform=_edge(axes, figure), ncols=columns,
        frameon=False, fontsize=8.5, labelcolor=QUIET, handlelength=1.0, handletextpad=0.5, columnspacing=1.4,
        borderaxespad=0.7, borderpad=0.0,
    )  # fmt: skip
    handles.set_in_layout(False)


def _title(axes: Axes, figure: Figure, text: str, pad: float) -> None:
    """At the figure's left edge, where the tick labels begin; the empty title keeps the room for it."""
    axes.set_title(" ", loc="left", fontsize=10.5, pad=pad)
    title = axes.annotate(
        text,
        (0, 1),
        (0, pad),
        xycoords=_edge(axes, figure),
        textcoords="offset points",
        fontsize=10.5,
        annotation_clip=False,
    )
    title.set_in_layout(False)


def _edge(axes: Axes, figure: Figure) -> Any:
    """Coordinates whose x = 0 is the figure's left edge and whose y = 1 is the top of the axes."""
    from matplotlib.transforms import blended_transform_factory

    return blended_transform_factory(figure.transFigure, axes.transAxes)


def _ticks(text: Callable[[float], str]) -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: text(value))


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

"""A number that was found, with its spread, beside what real pictures and shuffled wishes score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.evaluation.frechet import Moments, frechet_distance
from calotype.evaluation.runner import Spread
from calotype.rng import generator
from calotype.studies.table import Table

DRAWS = 50
"""Choices of pictures, with repetition, that a spread is taken over."""

Measure = Callable[[Tensor], float]
"""Which of the n pictures (m,) long, some perhaps more than once -> the number for them."""


@dataclass(frozen=True, eq=False)
class Ratio:
    """sum of `part` / sum of `whole` over pictures, then the mean over columns whose whole is not empty.

    With `whole` = 1 it is a mean over pictures; with a column for each class, intersections and unions, it is mIoU.

    Args:
        part, whole: (n, K).
    """

    part: Tensor
    whole: Tensor

    @classmethod
    def mean(cls, values: Tensor) -> Ratio:
        """Of one value per picture (n,)."""
        return cls(values[:, None].double(), torch.ones(len(values), 1, dtype=torch.float64))

    def __call__(self, rows: Tensor) -> float:
        """0 where there is nothing at all to be right about."""
        part, whole = self.part[rows].double().sum(0), self.whole[rows].double().sum(0)
        there = whole > 0
        return float((part[there] / whole[there]).mean()) if bool(there.any()) else 0.0


@dataclass(frozen=True, eq=False)
class Frechet:
    """Fréchet distance of some pictures' features to all of the others.

    Args:
        features: (n, D).
        reference: of those that they are compared with.
    """

    features: Tensor
    reference: Moments

    def __call__(self, rows: Tensor) -> float:
        """See the class."""
        return frechet_distance(self.reference, Moments.of(self.features[rows]))


def spread(measure: Measure, n: int, seed: int = 0) -> Spread:
    """The number for all n pictures, and its standard deviation over bootstrap choices of them.

    A choice with repetition has fewer different pictures than all, which a Fréchet distance counts as being far: only
    the deviation of the choices is used, not their mean (Efron 1979, https://doi.org/10.1214/aos/1176344552).
    """
    draws = [torch.randint(n, (n,), generator=generator(seed, "bootstrap", k)) for k in range(DRAWS)]
    return Spread(measure(torch.arange(n)), Spread.of(torch.tensor([measure(rows) for rows in draws])).std)


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Args:
        task: what the model was trained for.
        what: the way, the scale, the inputs; "" where there is only one.
        measure: what the numbers are.
        found: for what was made.
        real: the same for real pictures.
        control: the same with shuffled wishes.
        n: pictures.
    """

    task: str
    what: str
    measure: str
    found: Spread
    real: Spread | None
    control: Spread | None
    n: int

    @classmethod
    def of(
        cls,
        task: str,
        what: str,
        measure: str,
        found: Measure,
        real: Measure | None = None,
        control: Measure | None = None,
        *,
        n: int,
    ) -> Finding:
        """With spreads over n pictures."""
        beside = [None if m is None else spread(m, n) for m in (real, control)]
        return cls(task, what, measure, spread(found, n), beside[0], beside[1], n)


@dataclass(frozen=True)
class Findings:
    """Those of one part of a study, as they are remembered."""

    rows: tuple[Finding, ...]


Parts = Mapping[str, Callable[[], Findings]]
"""Name of a file -> what measures what is in it."""


HEAD = ("task", "what", "measure", "found", "real", "control", "N")


def table(rows: Iterable[Finding]) -> Table:
    """All that was found, in rows."""
    body = [[f.task, f.what or "-", f.measure, cell(f.found), cell(f.real), cell(f.control), f"{f.n:,}"] for f in rows]
    return Table(HEAD, body)


def compact(rows: Iterable[Finding]) -> Table:
    """What was found alone, a row for each way and a column for each measure."""
    found: dict[str, dict[str, Spread]] = {}
    for f in rows:
        found.setdefault(f.what, {})[f.measure] = f.found
    measures = list(dict.fromkeys(measure for values in found.values() for measure in values))
    body = [[what or "-", *(cell(values.get(m)) for m in measures)] for what, values in found.items()]
    return Table(["what", *measures], body)


def cell(value: Spread | None) -> str:
    """ "0.713 ±0.012", or "-"."""
    if value is None:
        return "-"
    digits = 3 if abs(value.mean) < 2 else 2 if abs(value.mean) < 50 else 1
    return f"{value.mean:.{digits}f} \N{PLUS-MINUS SIGN}{value.std:.{digits}f}"

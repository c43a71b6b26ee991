"""calotype components: what is said of every member, whole, with its keys."""

from __future__ import annotations

import dataclasses
import inspect
import re
from dataclasses import dataclass

import pytest

import calotype.runs
import calotype.studies.base  # noqa: F401  (both bring kinds along)
from calotype.cli import main
from calotype.cli.components import summary
from calotype.registry import kinds, registry


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("kind", kinds())
def test_every_member_is_told_whole_with_its_keys(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["components", kind]) == 0
    out = capsys.readouterr().out
    blocks = dict(re.findall(r"^(\S+)\n((?: .*\n)+)", out, re.M))
    assert [*blocks] == [*registry(kind)]
    for name, told in blocks.items():
        member = registry(kind)[name]
        assert squeezed("".join(summary(member))) in squeezed(told)
        assert all(len(line) <= 120 or len(line.split()) == 1 for line in told.splitlines())
        keys = re.findall(r"^ {8}(\w+): \S", told, re.M)
        assert keys == [f.name for f in dataclasses.fields(member) if f.init]


def test_a_kind_alone_is_enough_to_write_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["components", "curve"]) == 0
    out = capsys.readouterr().out
    assert "log-SNR in [logsnr_min, logsnr_max], its times" in out, "brackets are no markup"
    assert "\n        curve: {logsnr_max: null, logsnr_min: null, type: curve.cosine}\n" in out
    assert "\n        flipped: false\n" in out and "\n        values: (to be given)\n" in out
    assert main(["components"]) == 0
    overview = capsys.readouterr().out
    assert "\ncurve.cosine\n" in overview and "flipped" not in overview


@dataclass(frozen=True)
class Sentence:
    """Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (14): three
    lines, e.g. this one. And a second sentence."""


@dataclass(frozen=True)
class Formula:
    """One thing. With S = sigma / alpha:

        x = S,
        y = 2 S

    And more."""


@dataclass(frozen=True)
class Unfinished:
    """abar = 1 - t

    Somebody 2020."""


def test_summaries() -> None:
    assert summary(Sentence) == [
        "Ho et al. 2020, https://arxiv.org/abs/2006.11239, eq. (14): three lines, e.g. this one."
    ]
    assert summary(Formula) == ["One thing. With S = sigma / alpha:", "x = S,", "y = 2 S"]
    assert summary(Unfinished) == ["abar = 1 - t"]


def test_no_summary_is_cut_within_a_sentence() -> None:
    for kind in kinds():
        for name in registry(kind):
            paragraphs = (inspect.getdoc(registry(kind)[name]) or "").split("\n\n")
            told = squeezed("".join(summary(registry(kind)[name])))
            whole = {squeezed("".join(paragraphs[: k + 1])) for k in range(2)}
            assert told in whole or (squeezed(paragraphs[0]).startswith(told) and told.endswith(".")), (kind, name)

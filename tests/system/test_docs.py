"""The documentation says what is there: its code runs, its commands are accepted, its tables name every component.

The Python blocks of a page run in order, in one namespace. A block that opens something of a finished run (`runs/...`)
is only compiled: there is no such run here.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from calotype.autoencoder.base import PixelSpace
from calotype.cli import main
from calotype.conditioning.conditioner import Conditioners
from calotype.jobs.train import PIXELS, build_denoiser
from calotype.plain_yaml import parse
from calotype.registry import from_plain, registry
from calotype.runs import DiffusionRun

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {page.stem: page for page in sorted((DOCS / "concepts").glob("*.md"))}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
TEXT = {name: page.read_text("utf-8") for name, page in PAGES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_the_snippets_of_a_concept_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [fence for fence in FENCE.finditer(TEXT[name]) if fence[1] == "python"]
    assert blocks, f"{name}.md shows no code"
    namespace: dict[str, object] = {}
    for block in blocks:
        line = TEXT[name][: block.start(2)].count("\n")
        code = compile("\n" * line + block[2], str(PAGES[name]), "exec")  # so that a traceback names the page's line
        if "runs/" not in block[2]:
            exec(code, namespace)


# ------------------------------------------------------------------------------------------------------- every member

NAMED = [
    *("curve", "path", "parameterization", "weighting", "time_sampler", "distance", "variance"),
    *("grid", "sampler", "guidance", "network", "stem", "conditioner", "bottleneck"),
    *("source", "degradation", "mask"),
]
"""The kinds that a concept page has a table of: its first column is headed by the kind (`curve`, or the key that holds
one, `autoencoder.bottleneck`) and names the members."""


def named(kind: str) -> list[str]:
    """The members of a kind that the tables name, in their order."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", "\n".join(TEXT.values()), re.M):
        head, *rows = (re.findall(r"`([^`]*)`", line.split("|")[1]) for line in table.splitlines())
        if [word.rpartition(".")[2] for word in head] == [kind]:
            found += [name for row in rows for name in row]
    return found


@pytest.mark.parametrize("kind", NAMED)
def test_every_member_is_named_on_a_page(kind: str) -> None:
    """A new member without a word fails here, and so does a word without a member."""
    assert sorted(named(kind)) == [*registry(kind)], f"tables of docs/concepts whose first column is `{kind}`"


# ------------------------------------------------------------------------------------------------- links and commands


def anchors(page: Path) -> set[str]:
    """What a link can name after the #, as Markdown viewers make it of headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES.values(), DOCS / "README.md"], ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"`[^`]*`", "", FENCE.sub("", page.read_text("utf-8")))
    for target in re.findall(r"\]\(([^)]*)\)", prose):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_index_leads_to_every_page() -> None:
    linked = re.findall(r"^\| \[.*?\]\((.*?)\.md\)", TEXT["README"], re.M)
    assert sorted(linked) == sorted(PAGES.keys() - {"README"})


COMMANDS = [
    line
    for text in TEXT.values()
    for fence in FENCE.finditer(text)
    for line in fence[2].splitlines()
    if line.startswith("calotype train ") and "--for" not in line  # which reads the run that it names
]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("line", COMMANDS)
def test_training_commands_are_accepted(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, *words = shlex.split(line, comments=True)
    assert main([*words, "--print-config"]) == 0, capsys.readouterr().err
    plain = parse(capsys.readouterr().out, line)
    if words[1] == "diffusion" and plain["autoencoder"] == PIXELS:
        # sides, levels, heads and the loss fit together
        build_denoiser(from_plain(plain, DiffusionRun), PixelSpace(), Conditioners({}, {}))

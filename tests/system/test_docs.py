"""Code in the documentation runs.

The Python blocks of a page run in order, in one namespace. A block that opens something of a finished run (`runs/...`)
is only compiled: there is no such run here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {page.stem: page for page in sorted((DOCS / "concepts").glob("*.md"))}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


@pytest.mark.parametrize("name", PAGES)
def test_the_snippets_of_a_concept_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGES[name].read_text("utf-8")
    blocks = list(BLOCK.finditer(text))
    assert blocks, f"{name}.md shows no code"
    namespace: dict[str, object] = {}
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        code = compile("\n" * line + block[1], str(PAGES[name]), "exec")  # so that a traceback names the page's line
        if "runs/" not in block[1]:
            exec(code, namespace)

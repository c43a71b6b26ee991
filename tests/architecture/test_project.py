"""What the project's files promise: requirements, entry point, packaging, and what `import calotype` loads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.architecture.test_sources import HEAVY

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
REQUIREMENTS = [*PROJECT["project"]["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]
PINNED = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-").splitlines()
    if line and not line.startswith("#")
)


def name(requirement: str) -> str:
    return re.split(r"[<>=!~\[ ;]", requirement)[0].lower().replace("_", "-")


def test_torchvision_is_nowhere() -> None:
    assert "torchvision" not in {name(r) for r in REQUIREMENTS}
    assert "torchvision" not in PINNED
    assert find_spec("torchvision") is None, "the tests must pass without torchvision, so they run without it"


@pytest.mark.parametrize("requirement", REQUIREMENTS)
def test_every_requirement_has_a_tested_version(requirement: str) -> None:
    assert name(requirement) in PINNED


def test_constraints_are_versions_alone() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|@|^-", text, re.MULTILINE)
    assert "+" not in text, "a local version such as +cpu would bind everybody to one build"


def test_import_of_calotype_is_quick() -> None:
    code = "import calotype, json, sys; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "einops", "pydantic", "typer", "rich", "yaml", "PIL", "matplotlib", "tokenizers"}
    assert not heavy & set(json.loads(run.stdout))


@pytest.mark.parametrize("module", ["calotype.generation.generate", "calotype.tasks", "calotype.files"])
def test_the_core_loads_no_more_than_torch_and_numpy(module: str) -> None:
    code = f"import {module}, json, sys; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(run.stdout))


def test_typed_and_licensed() -> None:
    assert (ROOT / "src/calotype/py.typed").exists()
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for path in (ROOT / "src/calotype/data/embedded").iterdir():
        assert path.name in notice, f"NOTICE says nothing of {path.name}"


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() and not line.startswith(("#", "set ", "cd "))] == ["exec make test"]
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_wheel_holds_code_and_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
    )
    (wheel,) = tmp_path.glob("calotype-*-py3-none-any.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = {p for p in (ROOT / "src").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert {p.relative_to(ROOT / "src").as_posix() for p in files} <= inside

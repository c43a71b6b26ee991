"""What no source file may do, read from the syntax tree. Layers between rooms are import-linter's (pyproject.toml)."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "calotype"
MODULES = sorted(SRC.rglob("*.py"))

LONGEST = 400
"""Lines of a module; a longer one holds two things."""

BY_NAME = {"registry.py", "recipes/__init__.py"}
"""Modules that import by a computed name: the members of a package of ours, listed by pkgutil."""

RUNS_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "runpy"}
HEAVY = {
    "pydantic",
    "typer",
    "rich",
    "matplotlib",
    "tokenizers",
    "torchmetrics",
    "tensorboard",
    "diffusers",
    "transformers",
}
"""Imported inside the function that needs them, so that `import calotype.…` stays quick."""


def _id(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _for_types(child):
            continue
        yield child
        yield from _at_import(child)


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_nothing_runs_what_a_file_says(path: Path) -> None:
    found = []
    for node in ast.walk(_tree(path)):
        for name in _imports(node):
            if name.partition(".")[0] in RUNS_CODE:
                found.append((node.lineno, f"import {name}"))
            if name == "yaml" and _id(path) != "plain_yaml.py":
                found.append((node.lineno, "YAML outside plain_yaml.py"))
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called in {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.jit.load"}:
            found.append((node.lineno, called))
        if called.startswith("yaml.") and "load" in called:
            found.append((node.lineno, called))
        if keywords.get("shell", "False") != "False" or keywords.get("allow_pickle", "False") != "False":
            found.append((node.lineno, ast.unparse(node)))
        if called.endswith("import_module") and _id(path) not in BY_NAME and not isinstance(node.args[0], ast.Constant):
            found.append((node.lineno, "import by a computed name"))
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_imports(path: Path) -> None:
    tree = _tree(path)
    everywhere = {name.partition(".")[0] for node in ast.walk(tree) for name in _imports(node)}
    assert "torchvision" not in everywhere, "it has no build for many CPU-only torches"
    assert "tests" not in everywhere
    at_import = {name.partition(".")[0] for node in _at_import(tree) for name in _imports(node)}
    allowed = {"typer"} if _id(path).startswith("cli/") else set()
    assert not at_import & (HEAVY - allowed), "import it inside the function that needs it"


def _inherited(path: Path, name: str) -> bool:
    """Whether a method says what it is by overriding one that does."""
    if path not in MODULES or "." not in name:
        return False
    thing: Any = importlib.import_module(".".join(("calotype", *path.relative_to(SRC).with_suffix("").parts)))
    for part in name.split("."):
        thing = getattr(thing, part)
    return bool(inspect.getdoc(thing))


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_every_public_thing_says_what_it_is(path: Path) -> None:
    tree = _tree(path)
    silent = [] if ast.get_docstring(tree) else [_id(path)]

    def look(node: ast.Module | ast.ClassDef, where: str) -> None:
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
                if not ast.get_docstring(child) and not _inherited(path, f"{where}{child.name}"):
                    silent.append(f"{where}{child.name}")
                if isinstance(child, ast.ClassDef):
                    look(child, f"{where}{child.name}.")

    look(tree, "")
    assert not silent


@pytest.mark.parametrize("path", MODULES, ids=_id)
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_rules_catch_offenders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.SRC", tmp_path)
    path = tmp_path / "bad.py"
    for line in (
        "import pickle",
        "from joblib import load",
        "torch.load('x')",
        "eval('1')",
        "yaml.safe_load(x)",
        "np.load(f, allow_pickle=True)",
        "subprocess.run('x', shell=True)",
        "importlib.import_module(name)",
    ):
        path.write_text(line)
        with pytest.raises(AssertionError):
            test_nothing_runs_what_a_file_says(path)
    for line in (
        "import torchvision",
        "def f():\n    import torchvision",
        "import pydantic",
        "class A:\n    import rich",
    ):
        path.write_text(line)
        with pytest.raises(AssertionError):
            test_imports(path)
    for line in (
        "def f(): pass",
        '"""Doc."""\nclass A: pass',
        '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): pass',
    ):
        path.write_text(line)
        with pytest.raises(AssertionError):
            test_every_public_thing_says_what_it_is(path)
    path.write_text('"""Doc."""\nimport torch\ndef f():\n    """Doc."""\n    import rich\n    model.eval()\n')
    for rule in (test_nothing_runs_what_a_file_says, test_imports, test_every_public_thing_says_what_it_is):
        rule(path)

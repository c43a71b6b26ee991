"""Exit codes, messages and start-up of the command line."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import calotype
from calotype.cli import main
from calotype.errors import DiskFull, UserError

Failing = Callable[[BaseException], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """failing(error): from now on, `calotype demo` raises this."""

    def install(error: BaseException) -> None:
        def demo(out: Path, minutes: float | None) -> None:
            raise error

        fake = ModuleType("calotype.jobs.demo")
        fake.demo = demo  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, fake.__name__, fake)

    return install


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("no pictures in x;\n  name another folder"), 2, "error: no pictures in x; name another folder\n"),
        (DiskFull("the disk is full"), 2, "error: the disk is full\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "error: the disk is full; free some space and run the same command again, it goes on where it stopped\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs/x"),
            2,
            "error: runs/x: Permission denied; check the path and its permissions (--debug shows where it happened)\n",
        ),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (SystemExit(143), 143, "stopped and saved; go on with:\n  calotype demo\n"),
        (SystemExit(None), 0, ""),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, message: str, failing: Failing, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(error)
    assert main(["demo"]) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("words", [["--debug", "demo"], ["demo", "--debug"]])
@pytest.mark.parametrize("error", [UserError("x"), PermissionError(errno.EACCES, "no", "x")])
def test_debug_shows_where_mistakes_happen(words: list[str], error: Exception, failing: Failing) -> None:
    failing(error)
    with pytest.raises(type(error)):
        main(words)


def test_debug_by_environment(failing: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(UserError("x"))
    monkeypatch.setenv("CALOTYPE_DEBUG", "1")
    with pytest.raises(UserError):
        main(["demo"])
    monkeypatch.setenv("CALOTYPE_DEBUG", "0")
    assert main(["demo"]) == 2


def test_faults_of_ours_keep_their_traceback(failing: Failing) -> None:
    failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"calotype {calotype.__version__}\n"


def test_nothing_said_is_a_call_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    told = capsys.readouterr()
    assert "Usage: calotype" in told.out + told.err


PROBE = """
import io, json, resource, sys
from contextlib import redirect_stdout
from calotype.cli import main
with redirect_stdout(io.StringIO()) as text:
    code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([code, sorted(sys.modules), used.ru_utime + used.ru_stime, text.getvalue()]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        *([*verb.split(), "--help"] for verb in ("demo", "data show", "train", "train autoencoder", "train diffusion")),
        *([verb, "--help"] for verb in ("sample", "edit", "inpaint", "upscale", "synthesize", "layout")),
        *([verb, "--help"] for verb in ("reconstruct", "evaluate", "recipes", "components")),
    ],
    ids=" ".join,
)
def test_help_answers_at_once_and_without_torch(words: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    code, modules, seconds, text = json.loads(run.stdout)
    assert code == 0
    assert text
    assert not {"torch", "numpy", "matplotlib", "PIL", "tokenizers"} & set(modules)
    assert seconds < 0.5  # of the processor's time, whatever else the machine does; about 0.15


def test_module_can_be_run() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "calotype.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"calotype {calotype.__version__}\n"

"""The command line: thin verbs over `calotype.jobs`, which are imported when a verb runs.

`calotype --help` therefore answers without importing torch.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Sequence

SAVED = (130, 143)
"""Exit codes of a training that was asked to stop (Ctrl-C, SIGTERM)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done; 2 a mistake that the user can mend, told in one line on stderr; 130 stopped by Ctrl-C and 143 by SIGTERM,
    with the command that goes on. Anything else is a fault of ours and leaves its traceback. `--debug`, anywhere, or
    CALOTYPE_DEBUG=1 show the traceback of mistakes too.
    """
    from calotype.cli.app import app
    from calotype.errors import UserError

    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("CALOTYPE_DEBUG", "0") not in ("", "0")
    try:
        code = app(args=[w for w in words if w != "--debug"], prog_name="calotype")
        return code if isinstance(code, int) else 0
    except SystemExit as stop:
        if stop.code in SAVED:
            print(f"stopped and saved; go on with:\n  calotype {shlex.join(words)}", file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except UserError as error:
        if debug:
            raise
        return _mistake(str(error))
    except OSError as error:
        if debug:
            raise
        return _mistake(_sentence(error))
    except (MemoryError, RuntimeError) as error:
        if debug or not _out_of_memory(error):
            raise
        return _mistake("not enough memory; work on less at a time (a smaller batch, data.side or network)")


def _out_of_memory(error: MemoryError | RuntimeError) -> bool:
    # torch has a class of its own for accelerators alone; of the CPU's failure there is only the text.
    return isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error)


def _sentence(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run the same command again, it goes on where it stopped"
    what = f"{error.filename}: " if error.filename is not None else ""
    return f"{what}{error.strerror or error}; check the path and its permissions (--debug shows where it happened)"


def _mistake(sentence: str) -> int:
    print("error:", " ".join(sentence.split()), file=sys.stderr)
    return 2

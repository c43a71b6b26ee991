"""The command line: thin verbs over `calotype.jobs`, which are imported when a verb runs.

`calotype --help` therefore answers without importing torch.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 done; 2 a mistake that the user can mend, told in one line on stderr; 130 stopped by Ctrl-C. Anything else is a
    fault of ours and leaves its traceback. `--debug`, anywhere, or CALOTYPE_DEBUG=1 show the traceback of mistakes too.
    """
    from calotype.cli.app import app
    from calotype.errors import UserError

    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("CALOTYPE_DEBUG", "0") not in ("", "0")
    try:
        app(args=[w for w in words if w != "--debug"], prog_name="calotype")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except UserError as error:
        if debug:
            raise
        return _mistake(str(error))
    except OSError as error:
        if debug:
            raise
        return _mistake(_sentence(error))
    return 0


def _sentence(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run the same command again, it goes on where it stopped"
    what = f"{error.filename}: " if error.filename is not None else ""
    return f"{what}{error.strerror or error}; check the path and its permissions (--debug shows where it happened)"


def _mistake(sentence: str) -> int:
    print("error:", " ".join(sentence.split()), file=sys.stderr)
    return 2

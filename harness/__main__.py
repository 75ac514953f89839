"""`python -m harness` is `harness`: the command line, and Ctrl-C from the first import on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

AGAIN = 0.05  # seconds, by which a finaliser has long ended


def main() -> int:
    """Runs this process's command line; the exit code."""
    sys.unraisablehook = _heard
    try:
        from harness.cli.app import main as run
    except KeyboardInterrupt:
        print("harness: interrupted before anything was done", file=sys.stderr)
        return 130
    return run()


def _heard(ignored: Any) -> None:
    """Ctrl-C that comes while a finaliser or a callback runs is dropped by Python, and the command would go on: here it
    comes again. Whatever else is dropped is told as ever."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        threading.Timer(AGAIN, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(ignored)


if __name__ == "__main__":
    sys.exit(main())

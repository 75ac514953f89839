"""Ctrl-C at moments when Python itself would drop it, print a traceback, or end by the signal: code 130, one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]

PRESS = "os.kill(os.getpid(), signal.SIGINT); [0 for _ in range(10**6)]"
IMPORTING = f"""
class Finder:
    def find_spec(self, name, *more):
        if name == "harness.cli.app":
            {PRESS}
sys.meta_path.insert(0, Finder())
"""
FINALISER = f"""
import harness.cli.app as command
class Thing:
    def __del__(self):
        {PRESS}
def work(*given, **more):
    Thing()
    time.sleep(20)
command.app = work
"""
EXEC = f"""
import harness.cli.app as command
command.app = lambda *given, **more: exec({PRESS!r})
"""


@pytest.mark.parametrize("moment", [IMPORTING, FINALISER, EXEC], ids=["import", "finaliser", "exec"])
def test_ctrl_c_is_heard(tmp_path: Path, moment: str) -> None:
    begin = f"import os, signal, sys, time\nsys.path.insert(0, {str(ROOT)!r})\n"
    end = "\nfrom harness.__main__ import main\nsys.exit(main())\n"
    (tmp_path / "started.py").write_text(begin + moment + end)
    command = [sys.executable, "-m", "started"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("harness: interrupted") and done.stderr.count("\n") == 1


def test_what_else_a_finaliser_raises_is_told_as_ever() -> None:
    code = "import sys; from harness import __main__ as m; sys.unraisablehook = m._heard\n"
    code += "class T:\n    def __del__(self): raise ValueError('as ever')\nT()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "ValueError: as ever" in done.stderr

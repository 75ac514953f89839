"""`--help`, `models` and `datasets` answer at once, because nothing heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import start

HEAVY = ("torch", "transformers", "peft", "recbole", "ranx", "pandas", "numba", "pyarrow", "scipy", "numpy")
CHECK = f"""
from harness.cli.app import main
code = main()
sys.exit(code or ",".join(name for name in {HEAVY} if name in sys.modules) or 0)
"""
BOUND = 1.5  # seconds of processor time, which a busy machine hardly stretches; 0.2 to 0.4 were measured


@pytest.mark.parametrize("command", ["--help", "models", "datasets"])
def test_startup(command: str, toy: str, tmp_path: Path) -> None:
    with (tmp_path / "said").open("wb") as said:
        process = start(command, code=CHECK, out=said.fileno())
    assert process.stderr is not None
    err = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)  # its own time alone: other children may end meanwhile
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, err
    assert used.ru_utime + used.ru_stime < BOUND

"""`--help`, `models` and `datasets` answer at once, because nothing heavy is imported."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import start
from tests.folders import csv_folder

HEAVY = ("torch", "transformers", "peft", "recbole", "ranx", "pandas", "numba", "pyarrow", "scipy", "numpy")
CHECK = f"""
from harness.cli.app import main
code = main()
sys.exit(code or ",".join(name for name in {HEAVY} if name in sys.modules) or 0)
"""
BOUND = 1.5  # seconds of processor time, which a busy machine hardly stretches; 0.2 to 0.4 were measured


@pytest.mark.parametrize("command", ["--help", "models", "datasets"])
def test_startup(command: str, toy: str, tmp_path: Path) -> None:
    with (tmp_path / "said").open("wb") as message:
        process = start(command, code=CHECK, out=message.fileno())
    assert process.stderr is not None
    err = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)  # its own time alone: other children may end meanwhile
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, err
    assert used.ru_utime + used.ru_stime < BOUND


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("command", [("--help",), ("data", "stats"), ("data", "stats", "--json")])
def test_output_in_an_encoding_without_all_characters(
    command: tuple[str, ...], encoding: str, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    folder = csv_folder(Path("toy \u2264 \u00b1"))
    with Path("printed").open("wb") as file:
        process = start(*command, *([str(folder)] if command[0] == "data" else []), out=file.fileno())
        _, err = process.communicate()
    assert process.returncode == 0, err
    if "--json" in command:
        assert json.loads(Path("printed").read_text(encoding=encoding))

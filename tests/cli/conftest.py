"""One command line in this process, or in another, with a toy data set and folders of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli.app import main
from tests.fakes import Fake
from tests.folders import csv_folder, python_path, register

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


Harness = Callable[..., Done]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a toy data set; the working folder and the cache folder are the test's own."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HARNESS_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    register(monkeypatch)
    monkeypatch.setattr(Fake, "failure", None)
    return str(csv_folder(tmp_path / "toy"))


@pytest.fixture
def harness(toy: str, capfd: pytest.CaptureFixture[str]) -> Harness:
    """`harness(*arguments)` in this process."""

    def run(*arguments: str) -> Done:
        capfd.readouterr()
        code = main(arguments)
        message = capfd.readouterr()
        return Done(code, str(message.out), str(message.err))

    return run


MAIN = "from harness.__main__ import main; sys.exit(main())"


def start(*arguments: str, code: str = MAIN, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """`harness` in a process of its own, with the environment of the test."""
    environment = {**os.environ, "PYTHONPATH": python_path()}
    command = [sys.executable, "-c", f"import sys; {code}", *arguments]
    return subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True, env=environment)

"""Switches in the environment: yes and no in the usual words, anything else refused, never taken for yes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.environment import NAMES, check_switches, offline, switch, trusted
from harness.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("value", ["1", "true", "True", "YES", "on", " On "])
def test_yes(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, asked in (("HARNESS_TRUST_REMOTE_CODE", trusted), ("HARNESS_OFFLINE", offline)):
        monkeypatch.setenv(name, value)
        assert asked() is switch(name) is True


@pytest.mark.parametrize("value", ["0", "false", "False", "NO", "off", "", " "])
def test_no(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, asked in (("HARNESS_TRUST_REMOTE_CODE", trusted), ("HARNESS_OFFLINE", offline)):
        monkeypatch.setenv(name, value)
        assert asked() is switch(name) is False


@pytest.mark.parametrize("value", ["2", "maybe", "tru", "ja"])
@pytest.mark.parametrize("name", NAMES)
def test_anything_else_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=rf"{name}='{value}' is neither on nor off; write 1, true, yes or on"):
        check_switches()


def test_a_command_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", "perhaps")
    command = [sys.executable, "-m", "harness", "models"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "HARNESS_OFFLINE='perhaps'" in done.stderr

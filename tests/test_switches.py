"""Switches in the environment: yes and no in the usual words, anything else refused, never taken for yes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.environment import NAMES, check_switches, offline, switch, trusted
from harness.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("value", ["1", "true", "True", "YES", "on", " On "])
def test_yes(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, requested in (("HARNESS_TRUST_REMOTE_CODE", trusted), ("HARNESS_OFFLINE", offline)):
        monkeypatch.setenv(name, value)
        assert requested() is switch(name) is True


@pytest.mark.parametrize("value", ["0", "false", "False", "NO", "off", "", " "])
def test_no(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, requested in (("HARNESS_TRUST_REMOTE_CODE", trusted), ("HARNESS_OFFLINE", offline)):
        monkeypatch.setenv(name, value)
        assert requested() is switch(name) is False


@pytest.mark.parametrize("value", ["2", "maybe", "tru", "ja"])
@pytest.mark.parametrize("name", NAMES)
def test_anything_else_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=rf"{name}='{value}' is neither on nor off; write 1, true, yes or on"):
        check_switches()


OWN = "HARNESS_"


def reads_around(source: str) -> list[int]:
    """Lines that read a variable of this program, or turn any variable into yes or no, by themselves."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Subscript | ast.Call | ast.Compare):
            continue
        text = ast.unparse(node)
        local = re.match(rf"os\.(environ\[|environ\.get\(|getenv\()['\"]{OWN}", text)
        words = isinstance(node, ast.Compare) and "os.environ" in text and re.search(r"['\"](true|yes|on)['\"]", text)
        if local or words:
            lines.append(node.lineno)
    return lines


def test_the_scan_sees_other_ways() -> None:
    for line in (
        "os.environ['HARNESS_DEBUG']",
        "os.environ.get('HARNESS_X', '1')",
        "os.environ.get(n) in ('1', 'true')",
    ):
        assert reads_around(line) == [1], line
    assert not reads_around("os.environ.get('WORLD_SIZE', '1') == '1'")


def test_no_module_reads_switches_by_itself_or_flushes_files() -> None:
    """Only `harness/core/environment.py` reads switches, only `harness/core/files.py` flushes files."""
    paths = [path for folder in ("harness", "baselines", "eager") for path in sorted((ROOT / folder).rglob("*.py"))]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    assert {name for name, text in texts.items() if "fsync(" in text} == {"harness/core/files.py"}
    texts = {name: text for name, text in texts.items() if "environ" in text or "getenv" in text}
    assert not [name for name, text in texts.items() if name != "harness/core/environment.py" and reads_around(text)]


def test_a_command_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", "perhaps")
    command = [sys.executable, "-m", "harness", "models"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "HARNESS_OFFLINE='perhaps'" in done.stderr

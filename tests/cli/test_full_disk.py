"""A disk that is full or may not be written, at any step of a run: one clear line, code 2, and the state is kept."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import MAIN, ROOT, Harness

pytestmark = pytest.mark.nightly


class Refusing:
    """Lets the changes of files through until number `at` (from 1), which it refuses with `code`; counts them."""

    def __init__(self, patch: pytest.MonkeyPatch, code: int, at: int | None) -> None:
        self.code, self.at, self.count = code, at, 0
        for name in ("fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, real: Any) -> Any:
        def change(*value: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                raise OSError(self.code, os.strerror(self.code))
            return real(*value, **named)

        return change


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_refused_at_any_change_of_a_file(harness: Harness, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    command = ("run", "fake", "-d", "toy", "--json")
    with monkeypatch.context() as patch:
        counted = Refusing(patch, code, None)
        complete = json.loads(harness(*command).out)
    assert counted.count > 10
    refused = 0
    for at in range(1, counted.count + 1):
        shutil.rmtree("results")
        with monkeypatch.context() as patch:
            Refusing(patch, code, at)
            done = harness(*command)
        if done.code:  # the flush of a folder's names may fail: not every file system has it
            refused += 1
            assert done.code == 2 and done.out == "" and "Traceback" not in done.err
            assert f"cannot write: {os.strerror(code)}; free some space" in done.err, done.err
            assert sum(line.startswith("harness: ") for line in done.err.splitlines()) == 1
        repeated = harness(*command)
        assert repeated.code == 0 and json.loads(repeated.out)["metrics"] == complete["metrics"]
        assert not list(Path("results").rglob("*.tmp")) and not list(Path("results").rglob("checkpoint"))
    assert refused > 5


SCRIPT = """
mount -t tmpfs -o size=16k tmpfs "$1" || exit 77
shift
"$@"; first=$?
find results -name result.json | grep . && exit 1
mount -o remount,size=10m results
"$@"; second=$?
find results -name result.json | grep -q . || exit 1
exit $((first * 10 + second))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
def test_a_disk_that_is_really_full(toy: str, tmp_path: Path) -> None:
    """A file system of 16 KiB, which then grows."""
    (tmp_path / "results").mkdir()
    run = [sys.executable, "-c", f"import sys; {MAIN}", "run", "itemknn", "-d", toy]
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", SCRIPT, "sh", str(tmp_path / "results"), *run]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode in (1, 77) and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip("may mount nothing here")
    assert done.returncode == 20, done.stderr
    assert "cannot write: No space left on device; free some space" in done.stderr
    assert "Traceback" not in done.stderr

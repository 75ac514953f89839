"""Files are whole or not there, whenever the writer dies and whatever the disk says."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.victims import Death, Place, run
from harness.core.files import remove_stale_temp_files, sync_tree, translate_os_errors, write_atomic, write_text
from harness.errors import InputError


def test_a_writer_killed_before_any_of_its_changes_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    place = Place(tmp_path / "case")
    path = place.folder / "sub" / "file"

    def write(_: Place) -> None:
        write_text(path, "new")

    complete = run(write, place)
    assert (
        complete.code == 0 and complete.changes >= 5
    )  # the folder, the file, its flush, the rename, the folder's flush
    result = set()
    for change in range(1, complete.changes + 1):
        if path.exists():
            path.write_text("old")
        assert run(write, place, Death(change=change)).code == -9
        result.add(path.read_text())
        remove_stale_temp_files(path.parent)
        assert os.listdir(path.parent) == ["file"]
    assert result == {"old", "new"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["fsync", "replace", "mkdir"])
def test_whatever_the_disk_refuses_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, step: str
) -> None:
    path = tmp_path / "there" / "file"
    if step != "mkdir":
        write_text(path, "old")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(InputError, match=f"file: cannot write: {os.strerror(code)}; free some space"):
            write_text(path, "new")
    assert step == "mkdir" or (path.read_text() == "old" and os.listdir(path.parent) == ["file"])


def test_a_library_may_put_a_full_disk_into_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write: No space left on device"), translate_os_errors(tmp_path):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="another"), translate_os_errors(tmp_path):
        raise RuntimeError("another fault")


def test_what_is_filled_is_flushed_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *value, _name=name, _real=real: (steps.append(_name), _real(*value))[1])
    write_atomic(tmp_path / "file", lambda path: path.write_bytes(b"x"))
    assert steps == ["fsync", "replace", "fsync"]
    (tmp_path / "a" / "b").mkdir(parents=True)
    write_text(tmp_path / "a" / "b" / "c", "x")
    steps.clear()
    sync_tree(tmp_path / "a")
    assert steps == ["fsync"] * 3  # the file and both folders


def test_what_a_killed_writer_left_goes_with_the_next_write_and_a_living_ones_stays(tmp_path: Path) -> None:
    removed = subprocess.Popen([sys.executable, "-c", ""])
    removed.wait()
    dead, living = tmp_path / f".a[1].json.{removed.pid}-ab.tmp", tmp_path / f".a[1].json.{os.getppid()}-ab.tmp"
    young, other = tmp_path / f".a[1].json.{removed.pid}-cd.tmp", tmp_path / f".a1.json.{removed.pid}-ab.tmp"
    namesake = tmp_path / f".a[1].json.{os.getpid()}-ef.tmp"
    for path in (dead, living, young, other, namesake):
        path.touch()
        os.utime(path, None if path == young else (1, 1))
    os.utime(young, (time.time() + 60,) * 2)
    write_text(tmp_path / "a[1].json", "new")
    remaining = {path.name for path in tmp_path.iterdir()}
    assert remaining == {"a[1].json", living.name, young.name, other.name}


def test_no_read_only_handle_of_a_file_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses that with EBADF; folders are not opened there at all."""
    fcntl = pytest.importorskip("fcntl")
    modes = []

    def record(handle: int) -> None:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            modes.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "fsync", record)
    write_text(tmp_path / "a" / "x.txt", "hello")
    sync_tree(tmp_path)
    assert modes and os.O_RDONLY not in modes

"""Processes that are killed on purpose: a fork of this one, which has imported everything, runs one command. And what
they leave: whether every file under its final name is whole (`torn`), and what a finished command's folders hold,
without what depends on the clock (`facts`).

Nothing of torch is computed before a fork, so that a fork is as good as a process of its own; RecBole's worker is a
process of its own as ever. A death comes from outside at a random moment, or from within right before the n-th change
of a file, which is the same as right behind the one before: `CrashPoints`.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Not in the fork: while it imports, Ctrl-C may fall into one of importlib's weak references, where nobody hears it.
import numpy as np
import pyarrow.parquet as pq
import yaml
from safetensors import safe_open

from harness.cli.app import main
from harness.core import timer
from harness.experiments.trials import read_trials
from harness.store.record import Record
from harness.store.run_store import Store

KEEP = 0.1  # seconds between two snapshots, in place of 45: these toys last for a few
PATIENCE = 900.0  # seconds for a command; more is a hang
CHANGES = frozenset({"os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.rename", "fsync"})
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
UNFINISHED = ("model",)  # folders of a run that count for nothing before its `result.json` is there
CLOCK = ("seconds", "duration")
READERS = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
    ".parquet": lambda path: pq.read_table(path),
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".safetensors": lambda path: safe_open(path, framework="np").metadata(),
}


@dataclass(frozen=True)
class Death:
    """`after` seconds, or before the change of a file that has the number `change` (from 1)."""

    after: float | None = None
    change: int | None = None
    how: signal.Signals = signal.SIGKILL

    @property
    def kind(self) -> str:
        if self.how == signal.SIGINT:
            return "Ctrl-C"
        return "at a file" if self.after is None else "at a moment"


@dataclass(frozen=True)
class Place:
    """The folders of one case: the command runs in `folder`, with `folder / home` as its cache."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def said(self) -> str:
        """What the command printed, both streams."""
        path = self.folder / "said.txt"
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass(frozen=True)
class End:
    """How a command ended: its exit code (-9 where it was killed), its seconds, its changes of files."""

    code: int
    seconds: float
    changes: int


class CrashPoints:
    """Counts the changes of files below a folder that Python makes in this process, and dies before number `fatal`."""

    def __init__(self, folder: Path, fatal: int | None) -> None:
        self.folder, self.fatal, self.count = str(folder), fatal, 0
        sys.addaudithook(self._heard)
        sync = os.fsync

        def counted(handle: int) -> None:
            self._change()
            sync(handle)

        os.fsync = counted

    def _heard(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = given
            if isinstance(flags, int) and flags & WRITES and isinstance(path, (str, bytes, os.PathLike)):
                self._ours(path)
        elif event in CHANGES:
            self._ours(given[0], relative=isinstance(given[-1], int) and given[-1] >= 0)

    def _ours(self, path: Any, *, relative: bool = False) -> None:
        if relative or (isinstance(path, (str, os.PathLike)) and str(path).startswith(self.folder)):
            self._change()

    def _change(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            os.killpg(os.getpgrp(), signal.SIGKILL)


Command = Sequence[str] | Callable[[Place], object]


def run(command: Command, place: Place, death: Death | None = None) -> End:
    """Runs one `harness` command, or a function of the harness, in a fork to its end or its death. Raises
    `TimeoutError` where it hangs."""
    place.folder.mkdir(parents=True, exist_ok=True)
    counted = place.folder / "changes.txt"
    counted.unlink(missing_ok=True)
    began = time.monotonic()
    pid = fork(lambda: _live(command, place, None if death is None else death.change))
    try:
        _meet(pid, death, began)
        code = os.waitstatus_to_exitcode(_wait(pid, began))
    finally:
        _bury(pid)
    changes = int(counted.read_text()) if counted.exists() else 0
    return End(code, time.monotonic() - began, changes)


def fork(live: Callable[[], int]) -> int:
    """A fork that leads `live` and ends with its code; its process id. Ctrl-C waits until it can be caught: the fork
    must never come back to what its parent was doing."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return pid
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        code = live()
    except KeyboardInterrupt:
        code = 130  # before or behind the command, where nobody but Python hears it
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _live(command: Command, place: Place, fatal: int | None) -> int:
    """What the fork does, up to its exit code."""
    said = os.open(place.folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.environ["HARNESS_HOME"] = str(place.home)
    os.chdir(place.folder)
    timer.KEEP_SECONDS = KEEP
    points = CrashPoints(place.folder, fatal)
    try:
        code = int(bool(command(place))) if callable(command) else main(command)
        (place.folder / "changes.txt").write_text(str(points.count))
    except KeyboardInterrupt:
        if not callable(command):  # the command line must catch it
            traceback.print_exc()
        code = 130 if callable(command) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    return code


def _meet(pid: int, death: Death | None, began: float) -> None:
    """Waits for the moment of a death from outside, and deals it to the whole process group."""
    if death is None or death.after is None:
        return
    while time.monotonic() - began < death.after:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.002)
    try:
        os.killpg(pid, death.how)
    except ProcessLookupError:  # it has not come to `setsid` yet
        os.kill(pid, death.how)


def _wait(pid: int, began: float) -> int:
    while time.monotonic() - began < PATIENCE:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError(f"it ran for more than {PATIENCE:.0f} seconds")


def _bury(pid: int) -> None:
    """Ends what a killed command has left of its group, as a machine that goes down would."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def torn(place: Place) -> list[str]:
    """Files under a final name that cannot be read; to be asked at any moment, also right after a kill."""
    found = []
    for path in _files(place.folder):
        try:
            if path.name == "result.json":
                Record.model_validate_json(path.read_bytes())
            elif path.suffix in READERS:
                READERS[path.suffix](path)
        except Exception as error:
            found.append(f"{path.relative_to(place.folder)}: {type(error).__name__}: {error}")
    return found


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        complete = "result.json" in names
        folders[:] = [name for name in folders if name[0] != "." and (complete or name not in UNFINISHED)]
        if at.endswith("backbones"):
            folders.clear()  # made by transformers, and marked as complete only when it is
        yield from (Path(at, name) for name in names if name[0] != ".")


def litter(place: Place) -> list[str]:
    """What a finished command should not have left: temporary files, checkpoints, half a replacement. (The lease of a
    dead holder stays until somebody wants the lock.)"""
    bad = (".tmp", ".old", ".fresh", ".part", ".part.json", ".new")
    found = [path for path in place.folder.rglob("*") if path.name.endswith(bad) or path.name == "checkpoint"]
    found += [path for path in place.folder.rglob("unfinished/*") if not path.name.startswith(".")]
    return sorted(str(path.relative_to(place.folder)) for path in found)


def facts(place: Place) -> dict[str, Any]:
    """Everything in the folders that must not depend on whether and where a command was killed."""
    warnings: list[str] = []
    runs = Store(place.results).query(warn=warnings.append)
    return {
        "warnings": warnings,
        "records": {_name(run.folder.path, place): _record(run.record) for run in runs},
        "lists": {_name(run.folder.path, place): _digest_table(run.folder.predictions) for run in runs},
        "events": {_name(run.folder.path, place): _lines(run.folder.log) for run in runs},
        **{
            kind: {_name(path, place): content(path) for path in sorted(place.folder.glob(pattern))}
            for kind, (pattern, content) in CONTENTS.items()
        },
    }


def conclude(document: dict[str, Any], file: Path | None, folder: Path, *, failed: bool) -> int:
    """Writes the figures of a benchmark to a file if one is named; the exit code. The folder stays for a failure."""
    if file:
        file.write_text(json.dumps(document, indent=1) + "\n")
    if failed:
        print(f"what was left is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Where two documents differ, in words."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        absent = object()
        return [
            line for key in keys for line in differences(one.get(key, absent), other.get(key, absent), f"{at}/{key}")
        ]
    return [] if one == other else [f"{at}: {str(one)[:80]} ≠ {str(other)[:80]}"]


def _record(record: Record) -> dict[str, Any]:
    document = record.document()
    for key in ("started", "finished", "cost", "env", "seal"):
        document.pop(key)
    document["details"].pop("sessions", None)
    document["details"].pop("peak_device_memory_mb", None)
    return _timeless(document)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(below) for key, below in value.items() if not any(clock in key for clock in CLOCK)}
    return [_timeless(below) for below in value] if isinstance(value, list) else value


def _lines(path: Path) -> bool:
    """Whether every line of a log is a whole event."""
    return all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())


def _digest_table(path: Path) -> str:
    return hashlib.sha256(json.dumps(pq.read_table(path).to_pydict()).encode()).hexdigest()


def _name(path: Path, place: Place) -> str:
    return str(path.relative_to(place.folder))


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# What `facts` says of files besides the runs: where they are, and what counts of their content.
CONTENTS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "grids": ("results/ablations/*/*/*.json", lambda path: _timeless(json.loads(path.read_text()))),
    "studies": ("results/tuning/*/*/*/trials.journal", lambda path: _timeless(list(map(asdict, read_trials(path))))),
    "kept": ("home/data/*/*.parquet", _sha),
    "named": ("home/data/*.json", _sha),
    "raw": ("home/raw/**/[!.]*.csv", _sha),
    "index": ("*.index.json", _sha),
}

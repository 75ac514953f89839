"""Lists the runs of a store with state and size on the disk, and removes them."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from harness.core.files import RESULTS_HINT, writing_results
from harness.core.locks import acquire_lock, is_locked
from harness.errors import InputError
from harness.store.record import Record
from harness.store.run_store import RunFolder, Store, Unreadable, beside, read_record

State = Literal["complete", "unfinished", "running", "unreadable"]


@dataclass(frozen=True)
class Entry:
    """One run. `record` is None unless it is complete (one that is made afresh is `running` and has one); `size` is the
    bytes of all its files."""

    path: Path
    model: str
    dataset: str
    state: State
    size: int
    record: Record | None = None

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def seed(self) -> int | None:
        """As in the run id; None for rankings made elsewhere without one."""
        start_time = self.run_id.partition("-")[0].removeprefix("seed")
        return int(start_time) if start_time.isdigit() else None


def entries(store: Store, dataset: str | None = None) -> list[Entry]:
    """All runs (of one data set), by model, data set and id."""
    paths = sorted(path for path in store.runs.glob("*/*/*") if path.is_dir() and not path.name.startswith("."))
    return [_entry(path) for path in paths if dataset in (None, path.parent.name)]


def _entry(path: Path) -> Entry:
    record, state = None, "unfinished"
    result = RunFolder(path).result
    if result.exists():
        try:
            record, state = read_record(result), "complete"
        except Unreadable:
            state = "unreadable"
    if is_locked(beside(path, "lock")):
        state = "running"
    size = _size(path) + _size(beside(path, "fresh"))
    model = path.parent.parent.name.replace("@", ":")
    return Entry(path, model, path.parent.name, state, size, record)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a file of a run that is being made
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def remove(entry: Entry) -> None:
    """Removes a run. Raises `InputError` where a process is making it, and for errors of the disk.

    After a kill it leaves an unfinished run or a hidden folder, which the next process that makes this run removes.
    """

    def refuse() -> NoReturn:
        hint = "wait until it is complete, or end that process first"
        raise InputError(f"{entry.run_id} is being made by a process", where=entry.path, hint=hint)

    with acquire_lock(beside(entry.path, "lock"), refuse, RESULTS_HINT), writing_results(entry.path):
        RunFolder(entry.path).result.unlink(missing_ok=True)
        path = beside(entry.path, "fresh")
        shutil.rmtree(path, ignore_errors=True)
        os.rename(entry.path, path)
        shutil.rmtree(path)

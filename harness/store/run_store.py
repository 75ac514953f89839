"""The run store: RESULTS/runs/MODEL/DATASET/RUN_ID/.

Defines the paths, the rule that a folder without `result.json` is unfinished, the lock by which concurrent processes
make a run only once, the replacement of a run by a fresh one, the query over all runs, and the checksums (`seal`) that
detect a changed record or changed lists.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from glob import escape
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from harness.core import config_files
from harness.core.files import (
    RESULTS_HINT,
    remove_stale_temp_files,
    sync_folder,
    sync_tree,
    write_result_text,
    writing_results,
)
from harness.core.hashing import file_sha256
from harness.core.locks import LockHandle, acquire_lock, is_locked
from harness.errors import HarnessError, InputError, truncate
from harness.store.record import SCHEMA, Record, RunKey, folder_name, model_folder

RECORD = "result.json"
FILES = ("predictions.parquet",)  # with checksums; `config.yaml` may get the effort of a later study


def _write_record(record: Record, folder: RunFolder) -> Record:
    """Writes the record with the checksums of the run's files and of itself; returns it as written."""
    with writing_results(folder.path):
        entries = {name: file_sha256(folder.path / name) for name in FILES if (folder.path / name).is_file()}
    record = record.model_copy(update={"seal": {**entries, RECORD: _of_document(record.document())}})
    write_result_text(folder.result, json.dumps(record.document(), indent=2, ensure_ascii=False) + "\n")
    return record


def _of_document(document: dict[str, Any]) -> str:
    """Of the values, independent of key order and whitespace."""
    rest = {key: value for key, value in document.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def warn(line: str) -> None:
    """One line on stderr."""
    print(f"warning: {line}", file=sys.stderr)


@dataclass(init=False)
class RunFolder:
    """The files of one run. `checkpoint` is the state of an interrupted one, to resume it, and removed when it is
    complete; `model` the fitted model, as `Recommender.load` takes it."""

    path: Path

    def __init__(self, path: Path) -> None:
        self.path = path
        self.result = path / RECORD
        self.predictions = path / "predictions.parquet"
        self.config = path / "config.yaml"
        self.log = path / "log.jsonl"
        self.checkpoint = path / "checkpoint"
        self.model = path / "model"

    def clear(self) -> None:
        """Removes the checkpoint of a complete run: a kill may have come before its process did."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)


@dataclass(frozen=True)
class StoredRun:
    """A complete run: its record and its folder."""

    record: Record
    folder: RunFolder

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration: from the record, or from `config.yaml` for a record of schema 1 (empty where that
        cannot be read)."""
        if self.record.settings is not None:
            return self.record.settings
        try:
            return config_files.read(self.folder.config)
        except InputError:
            return {}


class Unreadable(Exception):
    """A `result.json` that this version cannot use; the message gives the reason."""


def read_record(path: Path) -> Record:
    """Raises `Unreadable` for a corrupt record, or one of a newer schema."""
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: not a readable record ({error})") from error
    number = document.get("schema") if isinstance(document, dict) else None
    if isinstance(number, int) and number > SCHEMA:
        raise Unreadable(f"{path}: schema {number} is newer than this version's {SCHEMA}")
    seal = document.get("seal") if isinstance(document, dict) else None
    if isinstance(seal, dict) and seal.get(RECORD) != _of_document(document):
        raise Unreadable(f"{path}: damaged: it is not what was written")
    try:
        return Record.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = truncate(".".join(map(str, first["loc"])))
        raise Unreadable(f"{path}: not a record of schema {SCHEMA} ({place}: {truncate(first['msg'])})") from error


def check_files(run: StoredRun) -> None:
    """Raises `Unreadable` where the files of a stored run are missing or do not match its record."""
    for name in FILES:
        path, digest = run.folder.path / name, (run.record.seal or {}).get(name)
        try:
            if digest is None or file_sha256(path) == digest:
                continue
        except OSError:
            pass
        reason = "damaged: it is not what was written" if path.exists() else "not stored here, only its record is"
        raise Unreadable(f"{path}: {reason}")


@dataclass(frozen=True)
class Supersedes:
    """A run that is to be replaced: the one that finished at this time (None: there was none). A newer one was made by
    an earlier attempt or another process, and stays."""

    finished: datetime | None

    def is_current(self, stored: StoredRun | None) -> bool:
        """Whether the run to be replaced is still the stored one."""
        return (stored and stored.record.finished) == self.finished


@dataclass(frozen=True)
class Reservation:
    """The exclusive right to make a run. `stored` is the complete run, where there is one to reuse; otherwise the run
    is made in `folder`, and `finish` stores it."""

    folder: RunFolder
    final: RunFolder
    stored: StoredRun | None = None
    hold: LockHandle = field(default_factory=LockHandle)

    def finish(self, record: Record) -> StoredRun:
        """Writes `result.json` last, when all other files are on the disk; a fresh run then replaces the old one, which
        is kept until then. The checkpoint is removed."""
        if self.hold.lost:
            raise HarnessError(f"another machine has taken over {self.final.path}: this process stood still too long")
        with writing_results(self.folder.path):
            sync_tree(self.folder.path)
        record = _write_record(record, self.folder)
        self.folder.clear()
        if self.folder != self.final:
            _replace(self.folder.path, self.final.path)
        return StoredRun(record, self.final)

    def update_record(self, record: Record) -> Record:
        """Replaces the stored record of the same measurements in one step; returns it as stored."""
        return _write_record(record, self.final)

    def discard(self) -> None:
        """Removes the unfinished folder where it has no checkpoint to resume from."""
        path = self.folder.checkpoint
        if not self.folder.result.exists() and not (path.exists() and any(path.iterdir())):
            shutil.rmtree(self.folder.path, ignore_errors=True)


class Store:
    """All runs under one results folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"

    def folder(self, key: RunKey) -> RunFolder:
        """The folder of the run, whether it exists or not."""
        parts = (model_folder(key.model), folder_name("data set", key.dataset), key.run_id)
        return RunFolder(self.runs.joinpath(*parts))

    def complete(self, key: RunKey) -> StoredRun | None:
        """The complete run; None where there is no readable one."""
        folder = self.folder(key)
        try:
            return StoredRun(read_record(folder.result), folder) if folder.result.exists() else None
        except Unreadable:
            return None

    @contextmanager
    def claim(
        self, key: RunKey, *, fresh: bool | Supersedes = False, waiting: Callable[[], None] = lambda: None
    ) -> Iterator[Reservation]:
        """Holds the run's lock for the block; calls `waiting` first where another process holds it.

        Without `fresh`, a complete run is returned as `stored`, and an unfinished folder is continued. With `fresh`, an
        unfinished folder is emptied, and a complete one is kept until its successor is finished. A complete run in a
        folder that cannot be written is returned without a lock.
        """
        final = self.folder(key)
        stored = None if fresh or os.access(final.path.parent, os.W_OK) else self.complete(key)
        if stored is not None:
            yield Reservation(final, final, stored)
            return
        with acquire_lock(beside(final.path, "lock"), waiting, RESULTS_HINT) as handle:
            yield replace(_open(final, fresh), hold=handle)

    def held(self, key: RunKey) -> bool:
        """Whether a process holds the run's lock at this moment; only a hint."""
        return is_locked(beside(self.folder(key).path, "lock"))

    def query(self, dataset: str | None = None, warn: Callable[[str], None] = warn) -> list[StoredRun]:
        """All complete runs (of one data set), by path. Records that cannot be used are skipped, each with a warning
        that names it."""
        results = []
        with gc_disabled():
            for path in sorted(self.runs.glob(f"*/{escape(dataset) if dataset else '*'}/*/result.json")):
                if path.parent.name.startswith(".") and not _is_replaced(path.parent):
                    continue
                try:
                    results.append(StoredRun(read_record(path), RunFolder(path.parent)))
                except Unreadable as error:
                    warn(f"skipped {error}")
        return results


def with_longest_lists(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Without runs that another one repeats with longer lists: only `protocol.depth` differs, metrics are equal."""
    depths = [run.record.protocol.depth for run in runs]
    if len(set(depths)) < 2:
        return list(runs)
    keys = [_measured_alike(run.record) for run in runs]
    longest = dict(sorted(zip(keys, depths, strict=True), key=itemgetter(1)))  # of equal keys the last one stays
    return [run for run, key, depth in zip(runs, keys, depths, strict=True) if depth == longest[key]]


def _measured_alike(record: Record) -> tuple[object, ...]:
    configuration = record.details.get("configuration", record.run_id)
    metrics = (*record.metrics.test.items(), *record.metrics.valid.items())
    return record.model, configuration, record.dataset.fingerprint, record.protocol.fingerprint, record.seed, metrics


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Disables garbage collection while many records are loaded: it would take three times as long as reading."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def beside(path: Path, suffix: str) -> Path:
    """The hidden file or folder beside a run's folder: `lock`, `fresh` or `old`."""
    return path.with_name(f".{path.name}.{suffix}")


def _is_replaced(folder: Path) -> bool:
    """Whether this is the old run of a replacement between its two steps."""
    return folder.name.endswith(".old") and not folder.with_name(folder.name[1 : -len(".old")]).exists()


def _replace(path: Path, final: Path) -> None:
    """Replaces the old run by a fresh one. After a kill between two of these steps, `_recover` continues."""
    with writing_results(final):
        old = beside(final, "old")
        os.rename(final, old)
        os.rename(path, final)
        sync_folder(final.parent)
        shutil.rmtree(old, ignore_errors=True)


def _recover(final: RunFolder) -> None:
    """Cleans up after a process that died while it replaced a run, or before it removed the checkpoint of a complete
    run. A complete fresh run replaces the old one; an incomplete one is removed."""
    old, run_folder = beside(final.path, "old"), RunFolder(beside(final.path, "fresh"))
    if old.exists() and not final.path.exists():
        os.rename(old, final.path)
    shutil.rmtree(old, ignore_errors=True)
    if run_folder.result.exists() and final.path.exists():
        _replace(run_folder.path, final.path)
    shutil.rmtree(run_folder.path, ignore_errors=True)
    if final.result.exists():
        final.clear()
    if final.path.exists():
        remove_stale_temp_files(final.path)


def _open(final: RunFolder, fresh: bool | Supersedes) -> Reservation:
    with writing_results(final.path):
        _recover(final)
        stored = None
        if final.result.exists():
            try:
                stored = StoredRun(read_record(final.result), final)
                check_files(stored)
            except Unreadable as error:
                stored = None
                if "newer" in str(error):
                    raise InputError(str(error), hint="update this program, or choose another --results") from error
                warn(f"{error}; made again")
        fresh = fresh if isinstance(fresh, bool) else fresh.is_current(stored)
        if stored is not None and not fresh:
            return Reservation(final, final, stored)
        folder = RunFolder(beside(final.path, "fresh")) if stored is not None else final
        if fresh or final.result.exists():
            shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir(parents=True, exist_ok=True)
    return Reservation(folder, final)

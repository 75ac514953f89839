"""The run store: RESULTS/runs/MODEL/DATASET/RUN_ID/.

Owns paths, the rule that a folder without `result.json` is unfinished, the lock that lets two processes that ask for
one run make it once, the replacement of a run by a fresh one, and the query over all runs.

The seal of a stored run: hashes by which a record, and the lists beside it, are known to be what was written.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from glob import escape
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
from harness.core.locks import LockHandle, acquire_lock, is_locked
from harness.errors import HarnessError, InputError, truncate
from harness.store.record import SCHEMA, Record
from harness.store.run_key import RunKey, folder_name, model_folder

RECORD = "result.json"


FILES = ("predictions.parquet",)  # what is read again; a configuration may be told of a study later


def add_checksums(record: Record, folder: Path) -> Record:
    """The record with the hashes of what lies in the run's folder, and of itself. Raises `OSError`."""
    entries = {name: _of_file(folder / name) for name in FILES if (folder / name).is_file()}
    return record.model_copy(update={"seal": {**entries, RECORD: _of_document(record.document())}})


def is_corrupt(document: dict[str, Any]) -> bool:
    """Whether a `result.json` has a seal, and is not what was sealed."""
    seal = document.get("seal")
    return isinstance(seal, dict) and seal.get(RECORD) != _of_document(document)


def corrupt_files(record: Record, folder: Path) -> list[str]:
    """Names of the run's files that are missing, or not what was sealed."""
    seal = {name: digest for name, digest in (record.seal or {}).items() if name in FILES}
    return [name for name, digest in seal.items() if not _holds(folder / name, digest)]


def _holds(path: Path, digest: str) -> bool:
    try:
        return _of_file(path) == digest
    except OSError:
        return False


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_document(document: dict[str, Any]) -> str:
    """Of the values, whatever the order of keys and the blanks between them."""
    rest = {key: value for key, value in document.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def warn(line: str) -> None:
    """One line on stderr."""
    print(f"warning: {line}", file=sys.stderr)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def checkpoint(self) -> Path:
        """What an interrupted run needs to go on; gone once the run is complete."""
        return self.path / "checkpoint"

    def clear(self) -> None:
        """Takes away what a complete run has no use for: a kill may have come before its maker did it."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)

    @property
    def model(self) -> Path:
        """The fitted model, as `Recommender.load` takes it."""
        return self.path / "model"


@dataclass(frozen=True)
class StoredRun:
    """A complete run: its record, and where it lies."""

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
    """A `result.json` that this version cannot use; the text says why."""


def read_record(path: Path) -> Record:
    """Raises `Unreadable` for a corrupt record, or one of a newer schema."""
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: not a readable record ({error})") from error
    number = document.get("schema") if isinstance(document, dict) else None
    if isinstance(number, int) and number > SCHEMA:
        raise Unreadable(f"{path}: schema {number} is newer than this version's {SCHEMA}")
    if isinstance(document, dict) and is_corrupt(document):
        raise Unreadable(f"{path}: damaged: it is not what was written")
    try:
        return Record.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = truncate(".".join(map(str, first["loc"])))
        raise Unreadable(f"{path}: not a record of schema {SCHEMA} ({place}: {truncate(first['msg'])})") from error


def check_files(run: StoredRun) -> None:
    """Raises `Unreadable` where the lists of a stored run are not those that its record was made of."""
    if names := corrupt_files(run.record, run.folder.path):
        raise Unreadable(f"{run.folder.path / names[0]}: damaged: it is not what was written")


@dataclass(frozen=True)
class Supersedes:
    """A run that is to be made again: the one that was finished then (None: there was none). A younger one is what
    was wanted, made by somebody else or by an earlier try, and stays."""

    finished: datetime | None

    def is_current(self, stored: StoredRun | None) -> bool:
        """Whether it is still there."""
        return (stored and stored.record.finished) == self.finished


@dataclass(frozen=True)
class Reservation:
    """A run that this process alone may make. `stored` is the complete run, where there is one to reuse; otherwise
    `folder` is where to work, and `finish` makes it the run."""

    folder: RunFolder
    final: RunFolder
    stored: StoredRun | None = None
    hold: LockHandle = field(default_factory=LockHandle)

    def finish(self, record: Record) -> StoredRun:
        """Writes `result.json` last, when all else is on the disk; a fresh run then takes the old one's place, which is
        kept until then. Optimiser states, of no use to a complete run, go."""
        if self.hold.lost:
            raise HarnessError(f"another machine has taken over {self.final.path}: this process stood still too long")
        with writing_results(self.folder.path):
            sync_tree(self.folder.path)
            record = add_checksums(record, self.folder.path)
        write_result_text(self.folder.result, _text(record))
        self.folder.clear()
        if self.folder != self.final:
            _replace(self.folder.path, self.final.path)
        return StoredRun(record, self.final)

    def update_record(self, record: Record) -> Record:
        """Puts another record of the same measurement in the stored one's place, in one step; gives it as it is
        stored."""
        record = add_checksums(record, self.final.path)
        write_result_text(self.final.result, _text(record))
        return record

    def discard(self) -> None:
        """Takes the unfinished folder away where it holds nothing that a resumed run could use."""
        path = self.folder.checkpoint
        if not self.folder.result.exists() and not (path.exists() and any(path.iterdir())):
            shutil.rmtree(self.folder.path, ignore_errors=True)


class Store:
    """All runs under one results folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.runs = self.root / "runs"

    def folder(self, key: RunKey) -> RunFolder:
        """Where the run lies or would lie."""
        parts = (model_folder(key.model), folder_name("data set", key.dataset), key.run_id)
        return RunFolder(self.runs.joinpath(*parts))

    def complete(self, key: RunKey) -> StoredRun | None:
        """The complete run; None where there is none that can be read."""
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

        Without `fresh`, a complete run is handed out as `stored`, and an unfinished folder is continued. With `fresh`,
        an unfinished folder is emptied, and a complete one is left alone until its successor is finished.
        """
        final = self.folder(key)
        with acquire_lock(beside(final.path, "lock"), waiting, RESULTS_HINT) as hold:
            yield replace(_open(final, fresh), hold=hold)

    def held(self, key: RunKey) -> bool:
        """Whether somebody holds the run's lock at this moment; a hint, no more."""
        return is_locked(beside(self.folder(key).path, "lock"))

    def query(self, dataset: str | None = None, warn: Callable[[str], None] = warn) -> list[StoredRun]:
        """All complete runs (of one data set), by path. Records that cannot be used are skipped, each with a warning
        that names it."""
        results = []
        with gc_disabled():
            for path in sorted(self.runs.glob(f"*/{escape(dataset) if dataset else '*'}/*/result.json")):
                if path.parent.name.startswith(".") and not _standing_in(path.parent):
                    continue
                try:
                    results.append(StoredRun(read_record(path), RunFolder(path.parent)))
                except Unreadable as error:
                    warn(f"skipped {error}")
        return results


@contextmanager
def gc_disabled() -> Iterator[None]:
    """No search for unreachable objects in the block: thousands of records make millions of objects, all of them kept,
    and looking through them again and again takes three times as long as reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _text(record: Record) -> str:
    return json.dumps(record.document(), indent=2, ensure_ascii=False) + "\n"


def beside(path: Path, suffix: str) -> Path:
    """The hidden file or folder of a run that lies beside it: `lock`, `fresh` or `old`."""
    return path.with_name(f".{path.name}.{suffix}")


def _standing_in(folder: Path) -> bool:
    """Whether this is the old run of a replacement that has taken its first step and not yet its second."""
    return folder.name.endswith(".old") and not folder.with_name(folder.name[1 : -len(".old")]).exists()


def _replace(path: Path, final: Path) -> None:
    """Puts a fresh run in the place of the old one. Killed between any two of these steps, `_mend` goes on."""
    with writing_results(final):
        old = beside(final, "old")
        os.rename(final, old)
        os.rename(path, final)
        sync_folder(final.parent)
        shutil.rmtree(old, ignore_errors=True)


def _mend(final: RunFolder) -> None:
    """Clears up behind a process that died while it replaced a run, or before it took away what a complete run has no
    use for. A fresh run that was complete takes its place; one that was not is of no account."""
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
        _mend(final)
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

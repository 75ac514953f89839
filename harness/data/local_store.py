"""Data sets stored on this machine under `$HARNESS_HOME/data` by `data prepare` and `data import`.

Each has a folder `NAME-<key>` with Parquet files (lists and timestamps are exact), `provenance.json` and its item
index, if any; the key is a hash of content, timestamps, order of ids and index. The file `NAME.json` points to the
current folder of a name: it is written last and atomically, so that a name never refers to an incomplete data set, and
older versions stay readable by their folder. Listing imports no heavy library.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.environment import cache_dir
from harness.core.files import remove_stale_temp_files, sync_folder, sync_tree, translate_os_errors, write_text
from harness.core.json_files import read_json_object
from harness.core.locks import acquire_lock
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.data.dataset import Dataset

PROVENANCE = "provenance.json"
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")  # as `harness.data.dataset.NAME`, which imports NumPy
SEPARATOR = "="  # after the name in hidden folders; no name contains it
AGAIN = "prepare or import it again"


@dataclass(frozen=True)
class StoredDataset:
    """Content of `NAME.json`: enough to list a data set without opening it."""

    name: str
    folder: str
    fingerprint: str
    users: int
    items: int
    interactions: int
    source: str = ""
    licence: str = ""
    description: str = ""

    @property
    def path(self) -> Path:
        return _root() / self.folder


def list_stored() -> dict[str, StoredDataset]:
    """All data sets of this machine by name; invalid files are ignored."""
    entries = (_read_entry(path) for path in sorted(_root().glob("*.json")))
    return {entry.name: entry for entry in entries if entry is not None}


def find(name: str) -> StoredDataset | None:
    """The data set stored under a name, or None."""
    entry = _read_entry(_root() / f"{name}.json")
    return entry if entry is not None and entry.name == name else None


def load(name: str) -> Dataset:
    """The data set of a name; `InputError` if it is not stored here, or its files have changed."""
    entry = find(name)
    if entry is None:
        message = "no such data set on this machine"
        raise InputError(message, where=name, hint="see harness datasets", code="not-available")
    try:
        dataset = _read(entry.path, name)
    except InputError as error:
        message = f"a file in it was changed: {error.what}"
        raise InputError(message, where=error.where, hint=AGAIN, code="wrong-checksum") from error
    if entry.folder != f"{name}-{_key(dataset)}":
        raise InputError("a file in it was changed", where=str(entry.path), hint=AGAIN, code="wrong-checksum")
    return dataset


def provenance(name: str) -> dict[str, Any] | None:
    """Provenance of a stored data set; None if it is not stored here."""
    entry = find(name)
    return None if entry is None else _story(entry.path)


def save_dataset(
    dataset: Dataset, story: Mapping[str, Any], *, licence: str = "", description: str = ""
) -> StoredDataset:
    """Writes a data set and its provenance (`story`, JSON-able) atomically, and points its name to it.

    Equal content under the same name replaces the provenance only. Raises `InputError` for disk errors, and for content
    that Parquet rows cannot express (users without interactions).
    """
    shelf = _root()
    entry = StoredDataset(
        name=dataset.name,
        folder=f"{dataset.name}-{_key(dataset)}",
        fingerprint=dataset.fingerprint,
        users=len(dataset.users),
        items=len(dataset.items),
        interactions=dataset.interactions,
        source=dataset.source,
        licence=licence,
        description=description,
    )
    facts = {key: getattr(dataset, key) for key in ("source", "notes", "lost", "order")}
    fields = {**story, "dataset": facts}
    with acquire_lock(shelf / f".{dataset.name}.lock"), translate_os_errors(shelf):
        remove_stale_temp_files(shelf, f"{dataset.name}.json")
        for stale in shelf.glob(f".{dataset.name}{SEPARATOR}*.tmp"):  # of a killed process
            shutil.rmtree(stale, ignore_errors=True)
        try:
            is_complete = entry.folder == f"{entry.name}-{_key(_read(entry.path, entry.name))}"
        except InputError:
            is_complete = False
        if not is_complete:
            _put_folder(entry, dataset, fields)
        remove_stale_temp_files(entry.path)
        _write(entry.path / PROVENANCE, fields)
        _write(shelf / f"{dataset.name}.json", asdict(entry))
    return entry


def building(name: str) -> AbstractContextManager[object]:
    """The lock of building `name`: one process at a time does, others wait."""
    return acquire_lock(_root() / f".{name}{SEPARATOR}making.lock")


def _put_folder(entry: StoredDataset, dataset: Dataset, fields: Mapping[str, Any]) -> None:
    """Fills a temporary folder, reads it back, and moves it into place."""
    from harness.data.readers import lcrec, parquet_tables

    with staged_folder(entry.path, f".{entry.name}{SEPARATOR}", ".tmp") as path:
        parquet_tables.write(dataset, path)
        if dataset.index_file is not None:
            lcrec.copy_index(dataset.index_file, path, entry.name)
        _write(path / PROVENANCE, fields)
        if not entry.folder.endswith(_key(_read(path, entry.name))):
            message = "it cannot be kept as it is: reading it back gives something else"
            hint = "leave out users and items without interactions"
            raise InputError(message, where=entry.name, hint=hint, code="wrong-checksum")
        shutil.rmtree(entry.path, ignore_errors=True)  # incomplete


@contextmanager
def staged_folder(folder: Path, prefix: str, suffix: str = "") -> Iterator[Path]:
    """A temporary folder beside `folder`, which it becomes after the block; nothing is left of it after an error."""
    path = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=folder.parent))
    try:
        yield path
        path.chmod(0o755)
        sync_tree(path)
        path.replace(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _key(dataset: Dataset) -> str:
    """Hash of the fingerprint, timestamps, order of ids, and index."""
    from harness.core.hashing import fingerprint
    from harness.data.readers.lcrec import index_hashes

    parts = (dataset.fingerprint, list(dataset.users), list(dataset.items), dataset.timestamps)
    index = () if dataset.index_file is None else (index_hashes(dataset.index_file),)
    return fingerprint(*parts, *index)


def _read(folder: Path, name: str) -> Dataset:
    from harness.data.dataset import ORDERS
    from harness.data.readers import lcrec, parquet_tables

    fields = _story(folder).get("dataset", {})
    try:
        order = fields.get("order", "time")
        if order not in ORDERS:
            raise ValueError(order)
        notes = tuple(str(note) for note in fields.get("notes", ()))
        values = tuple((str(reason), int(count)) for reason, count in fields.get("lost", ()))
        source = str(fields.get("source", ""))
    except (AttributeError, TypeError, ValueError) as error:
        message, location = "not the story of a data set", str(folder / PROVENANCE)
        raise InputError(message, where=location, hint=AGAIN, code="bad-file") from error
    dataset = parquet_tables.read_stored(folder, name, order)
    return replace(dataset, source=source, notes=notes, lost=values, index_file=lcrec.index_beside(folder, name))


def _story(folder: Path) -> dict[str, Any]:
    path = folder / PROVENANCE
    try:
        return read_json_object(path)
    except InputError as error:
        message = f"cannot be read ({error.what})"
        raise InputError(message, where=str(path), hint=AGAIN, code="unreadable-file") from error


def _root() -> Path:
    return cache_dir() / "data"


def _read_entry(path: Path) -> StoredDataset | None:
    try:
        entry = StoredDataset(**read_json_object(path))
    except (InputError, TypeError):
        return None
    texts = (entry.name, entry.folder, entry.fingerprint, entry.source, entry.licence, entry.description)
    sound = all(isinstance(text, str) for text in texts) and PLAIN.fullmatch(entry.folder) is not None
    counts = (entry.users, entry.items, entry.interactions)
    return entry if sound and all(type(count) is int for count in counts) and entry.path.is_dir() else None


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """Writes JSON atomically."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")

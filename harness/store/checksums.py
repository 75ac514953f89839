"""The seal of a stored run: hashes by which a record, and the lists beside it, are known to be what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.store.record import Record

RECORD = "result.json"
FILES = ("predictions.parquet",)  # what is read again; a configuration may be told of a study later


def sealed(record: Record, folder: Path) -> Record:
    """The record with the hashes of what lies in the run's folder, and of itself. Raises `OSError`."""
    found = {name: _of_file(folder / name) for name in FILES if (folder / name).is_file()}
    return record.model_copy(update={"seal": {**found, RECORD: _of_document(record.document())}})


def broken(document: dict[str, Any]) -> bool:
    """Whether a `result.json` has a seal, and is not what was sealed."""
    seal = document.get("seal")
    return isinstance(seal, dict) and seal.get(RECORD) != _of_document(document)


def changed(record: Record, folder: Path) -> list[str]:
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

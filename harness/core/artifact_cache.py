"""A cache of artefacts under a key of everything that determines them, with checksums.

The manifest (JSON) of an entry has the parts of its key and the SHA-256 of each file. It is written last: files without
a manifest are unfinished. A corrupt entry logs a warning and is treated as a cache miss.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from harness.core.config_files import flatten
from harness.core.files import write_text
from harness.core.hashing import file_sha256, fingerprint
from harness.core.json_files import read_json_object
from harness.errors import InputError

SCHEMA = 1
SEAL = "seal"  # key of the hash of the rest of the manifest
SETTLED = 2.5  # seconds since a change after which the next has another timestamp (FAT: 2 s)

State = Literal["kept", "missing", "damaged"]


@dataclass(frozen=True)
class Key:
    """`parts`: everything that determines the content of an entry of this `kind`, by name: hashes of large inputs,
    settings, the code version of the method; JSON-able."""

    kind: str
    parts: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """The key as part of a file name."""
        return fingerprint(self.kind, dict(self.parts))


@dataclass(frozen=True)
class Difference:
    """One part of a key by its dotted name, in the closest stored entry (`kept`) and in the requested one (`asked`)."""

    part: str
    kept: Any
    asked: Any


@dataclass(frozen=True)
class CacheEntry:
    """An entry of the cache. `manifest`: path of its manifest, which need not exist."""

    key: Key
    manifest: Path

    def read(self) -> dict[str, Any] | None:
        """The details stored with the entry; None if it is missing or corrupt, with a warning in the latter case."""
        if not self.manifest.is_file():
            return None
        try:
            return _sound(self.manifest, self.key)
        except InputError as error:
            print(f"warning: {error}; computed again", file=sys.stderr)
            return None

    def state(self) -> State:
        """Whether a run would use the entry."""
        if not self.manifest.is_file():
            return "missing"
        try:
            _sound(self.manifest, self.key)
        except InputError:
            return "damaged"
        return "kept"

    def write(self, files: Sequence[Path], details: Mapping[str, Any]) -> None:
        """Writes the manifest of finished `files` in its folder, atomically. Raises `InputError`."""
        document = {
            "schema": SCHEMA,
            "kind": self.key.kind,
            "parts": dict(self.key.parts),
            "files": {path.relative_to(self.manifest.parent).as_posix(): sha256_of(path) for path in files},
            "details": dict(details),
        }
        document[SEAL] = fingerprint(json.loads(json.dumps(document)))
        write_text(self.manifest, json.dumps(document, ensure_ascii=False))

    def closest(self, pattern: str) -> tuple[Difference, ...] | None:
        """Differences to the stored entry with the fewest of them, among manifests that match `pattern` (as in
        `Path.glob`, in the same folder); None if there is none."""
        results = []
        for path in sorted(self.manifest.parent.glob(pattern)):
            with suppress(InputError):
                document = read_json_object(path)
                if document.get("kind") == self.key.kind and isinstance(document.get("parts"), dict):
                    results.append(differences(document["parts"], self.key.parts))
        return min(filter(None, results), key=len, default=None)


def differences(entries: Mapping[str, Any], requested: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Compares part by part; nested parts have dotted names.

    >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
    (Difference(part='a.b', kept=1, asked=3),)
    """
    one, other = (json.loads(json.dumps(flatten(parts))) for parts in (entries, requested))
    names = [*other, *(name for name in one if name not in other)]
    unlike = [name for name in names if (name in one, one.get(name)) != (name in other, other.get(name))]
    return tuple(Difference(name, one.get(name), other.get(name)) for name in unlike)


def sha256_of(path: Path) -> str:
    """SHA-256 in hexadecimal digits. Cached for files that have not changed; a file that changed just now is read, as
    it may change again within the resolution of its timestamp."""
    status = path.stat()
    digest = _sha256 if time.time() - status.st_mtime > SETTLED else _sha256.__wrapped__
    return digest(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=1024)
def _sha256(path: Path, changed: int, size: int, node: int) -> str:
    return file_sha256(path)


def _sound(manifest: Path, key: Key) -> dict[str, Any]:
    """The details. Raises `InputError` if the entry does not match its manifest, or the manifest not `key`."""
    location, document = str(manifest), read_json_object(manifest)
    if document.pop(SEAL, None) != fingerprint(document) or document.get("schema") != SCHEMA:
        raise InputError("corrupt: its checksum does not match", where=location, code="wrong-checksum")
    if document["kind"] != key.kind or document["parts"] != json.loads(json.dumps(dict(key.parts))):
        raise InputError("corrupt: it belongs to another key", where=location, code="wrong-checksum")
    for name, digest in document["files"].items():
        path = manifest.parent / name
        try:
            if sha256_of(path) != digest:
                raise InputError("corrupt: its SHA-256 does not match", where=path, code="wrong-checksum")
        except OSError as error:
            message = f"corrupt: cannot be read ({error.strerror})"
            raise InputError(message, where=path, code="wrong-checksum") from error
    return document["details"]

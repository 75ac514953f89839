"""What is kept so that it need not be made again: under a key of all that decides it, with a hash that notices damage.

A manifest (JSON) beside the files of an entry tells the parts of its key and the SHA-256 of each file; it is written
last, so that files without it count as unfinished. An entry that does not hold what its manifest says is told of, and
counts as missing. What is in the files, and how they are made, is the caller's business.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from harness.core.files import write_text
from harness.core.hashing import fingerprint
from harness.core.json_files import read_json_object
from harness.errors import InputError

SCHEMA = 1
SEAL = "seal"  # of a manifest: the hash of all else in it
SETTLED = 2.5  # seconds since a file's last change, after which the next one shows another time: FAT counts by twos

State = Literal["kept", "missing", "damaged"]


@dataclass(frozen=True)
class Key:
    """`parts` are all that decides the content of an entry of this `kind`: hashes of large things, settings as they
    are, the code version of the method; JSON-able, by name."""

    kind: str
    parts: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """The key as part of a file's name."""
        return fingerprint(self.kind, dict(self.parts))


@dataclass(frozen=True)
class Difference:
    """One part of a key, by its dotted name: what the nearest kept entry has, and what is asked for."""

    part: str
    kept: Any
    asked: Any


@dataclass(frozen=True)
class CacheEntry:
    """An entry that a run would look for. `manifest` is where its manifest lies or would lie."""

    key: Key
    manifest: Path

    def read(self) -> dict[str, Any] | None:
        """The details that were kept with it; None where it is missing or damaged, and then a warning says so."""
        if not self.manifest.is_file():
            return None
        try:
            return _sound(self.manifest, self.key)
        except InputError as error:
            print(f"warning: {error}; made again", file=sys.stderr)
            return None

    def state(self) -> State:
        """Whether a run would take it as it is."""
        if not self.manifest.is_file():
            return "missing"
        try:
            _sound(self.manifest, self.key)
        except InputError:
            return "damaged"
        return "kept"

    def write(self, files: Sequence[Path], details: Mapping[str, Any]) -> None:
        """Puts the manifest of finished `files`, in its folder or below, in place, in one step. Raises `InputError`."""
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
        """How the entry that differs in the fewest parts differs, among those whose manifests fit `pattern` (as for
        `Path.glob`, beside this one); None where there is none."""
        results = [differences(parts, self.key.parts) for parts in _kept(self.manifest.parent, pattern, self.key.kind)]
        return min((each for each in results if each), key=len, default=None)


def differences(entries: Mapping[str, Any], requested: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Part by part, nested ones by their dotted names.

    >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
    (Difference(part='a.b', kept=1, asked=3),)
    """
    one, other = _flat(entries), _flat(requested)
    names = [*other, *(name for name in one if name not in other)]
    unlike = [name for name in names if (name in one, one.get(name)) != (name in other, other.get(name))]
    return tuple(Difference(name, one.get(name), other.get(name)) for name in unlike)


def sha256_of(path: Path) -> str:
    """In hexadecimal digits; of a file that has not changed since, without reading it again. One that has changed just
    now is read: within a tick of its clock it may change again, and show the same time."""
    status = path.stat()
    digest = _sha256 if time.time() - status.st_mtime > SETTLED else _sha256.__wrapped__
    return digest(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=1024)
def _sha256(path: Path, changed: int, size: int, node: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sound(manifest: Path, key: Key) -> dict[str, Any]:
    """The details. Raises `InputError` where the entry is not what its manifest says, or the manifest not of `key`."""
    location, document = str(manifest), read_json_object(manifest)
    if document.pop(SEAL, None) != fingerprint(document) or document.get("schema") != SCHEMA:
        raise InputError("damaged: it is not what was written", where=location, code="wrong-checksum")
    if document["kind"] != key.kind or document["parts"] != json.loads(json.dumps(dict(key.parts))):
        raise InputError("damaged: it belongs to another key", where=location, code="wrong-checksum")
    for name, digest in document["files"].items():
        path = manifest.parent / name
        try:
            if sha256_of(path) != digest:
                raise InputError("damaged: its SHA-256 is not what was written", where=str(path), code="wrong-checksum")
        except OSError as error:
            raise InputError(
                f"damaged: cannot be read ({error.strerror})", where=str(path), code="wrong-checksum"
            ) from error
    return document["details"]


def _kept(folder: Path, pattern: str, kind: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(pattern)):
        try:
            document = read_json_object(path)
        except InputError:
            continue
        if document.get("kind") == kind and isinstance(document.get("parts"), dict):
            yield document["parts"]


def _flat(parts: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in parts.items():
        name = f"{above}{key}"
        entries |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return json.loads(json.dumps(entries))

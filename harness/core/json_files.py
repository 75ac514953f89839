"""Reading files that people, or strangers, made: every fault becomes one `InputError` that names file, line and field.

Owns bytes to text to JSON. What the fields mean is each reader's business.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO

from harness.errors import InputError

AGAIN = "fetch the file again"
MAX_DECOMPRESSED_BYTES, MAX_RATIO = (
    1 << 26,
    100,
)  # bytes that may come out of any file; of a larger one, so many for each that goes in
SMALL = 1 << 20  # bytes of a file that a person could have written: a configuration, a grid, a space


def read_text(path: Path, max_bytes: int | None = None) -> str:
    """The file as UTF-8 text (a byte order mark is dropped); it must exist and hold something, and no more than
    `max_bytes` bytes (None: what memory holds)."""
    try:
        limit = room() if max_bytes is None else max_bytes
        if path.suffix.lower() == ".gz":
            with _unpacked(path) as file:
                raw = _piped(file, limit)
        else:
            with path.open("rb") as file:
                raw = _whole(file, limit)
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), hint="check the path", code="missing-file") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the file cannot be read ({reason})", where=str(path), code="unreadable-file") from error
    if raw is None:
        message = "too large for this machine's memory" if max_bytes is None else f"more than {max_bytes:,} bytes"
        raise InputError(message, where=str(path), hint="is it the file that you mean?", code="too-large")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(
            "not UTF-8 text", where=f"{path} line {line}", hint="save the file as UTF-8", code="unreadable-file"
        ) from error
    if not text.strip():
        raise InputError("the file is empty", where=str(path), hint="write the data to it again", code="empty-data")
    return text


def _whole(file: BinaryIO, limit: int) -> bytes | None:
    """All that a file or a pipe gives, None where that is more than `limit` bytes."""
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode):
        return file.read() if status.st_size <= limit else None
    return _piped(file, limit)


def _piped(file: BinaryIO | io.BufferedReader, limit: int) -> bytes | None:
    parts, size = [], 0
    while part := file.read(1 << 16):
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)


def room() -> int:
    """Bytes of text that may be read whole: a sixteenth of the free memory, for what is made of them takes many times
    their size."""
    import psutil

    return psutil.virtual_memory().available // 16


@contextmanager
def open_text(path: Path, newline: str = "") -> Iterator[TextIO]:
    """The file as UTF-8 text, line by line (`newline` as for `open`), unpacked where it ends in `.gz`; faults as
    `read_text` tells them, also those that are met half way through."""
    try:
        if path.suffix.lower() == ".gz":
            with _unpacked(path) as content, io.TextIOWrapper(content, "utf-8-sig", newline=newline) as file:
                yield file
        else:
            with path.open(encoding="utf-8-sig", newline=newline) as file:
                yield file
    except (OSError, UnicodeDecodeError):
        read_text(path)  # which says what is wrong, and where
        raise


@contextmanager
def _unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """The content of a gzip file. Raises `InputError` for one that is cut off, broken, or unfolds to more than text."""
    try:
        with path.open("rb") as packed, gzip.open(packed) as content:
            yield io.BufferedReader(BoundedDecompressor(content, packed, str(path)))
    except EOFError as error:
        raise InputError("the gzip file is cut off", where=str(path), hint=AGAIN, code="bad-file") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"the compressed file is broken ({error})", where=str(path), hint=AGAIN, code="bad-file"
        ) from error


class BoundedDecompressor(io.RawIOBase):
    """A compressed stream, read only as far as it unfolds to what text can: a few bytes may stand for terabytes."""

    def __init__(self, content: IO[bytes] | gzip.GzipFile, file: IO[bytes], name: str) -> None:
        self._content, self._file, self._name, self._size = content, file, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._content.read(len(buffer))
        buffer[: len(part)] = part
        self._size += len(part)
        if self._size > MAX_DECOMPRESSED_BYTES and self._size > MAX_RATIO * self._file.tell():
            message = f"{self._size:,} bytes come out of {self._file.tell():,}: no text is packed like that"
            raise InputError(message, where=self._name, hint=AGAIN, code="too-large")
        return len(part)


def read_json(path: Path) -> Any:
    """The JSON value in the file. A key that stands twice is an error: JSON would quietly keep the last."""
    return parse_json(read_text(path), str(path))


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file, which must hold something."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(
            "a JSON object is needed at the top", where=str(path), hint='begin with {"id": …}', code="bad-file"
        )
    if not value:
        raise InputError(
            "the JSON object is empty", where=str(path), hint="write the data to it again", code="empty-data"
        )
    return value


def parse_json(text: str, location: str) -> Any:
    """The value that `text` says. Raises `InputError` for what is not JSON, for a key that stands twice, and for what
    Python reads and cannot work with: nesting without end, numbers of thousands of digits, halves of characters."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            names: set[str] = set()
            key = next(key for key, _ in pairs if key in names or names.add(key))
            raise InputError(
                f"key {key!r} stands twice",
                where=_place(location, text, key),
                hint="keep one of the two",
                code="duplicate",
            )
        return entries

    try:
        value = json.loads(text, object_pairs_hook=unique)
        if "\\u" in text:  # an escape may be half a character, which no file could hold
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"{location} line {error.lineno} column {error.colno}"
        raise InputError(
            f"not JSON ({error.msg})", where=place, hint="write the file again", code="bad-file"
        ) from error
    except RecursionError as error:
        raise InputError("JSON nested too deeply", where=location, code="bad-file") from error
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.start + 1]
        raise InputError(
            f"{half!r} is half a character",
            where=location,
            hint="write the file again as UTF-8",
            code="unreadable-file",
        ) from error
    except ValueError as error:  # Python reads no whole number of more than 4,300 digits
        raise InputError(
            "a number of too many digits", where=location, hint="write the file again", code="bad-file"
        ) from error
    return value


def _place(location: str, text: str, key: str) -> str:
    """`where line N`, with the line of the second place where `key` is written as a key."""
    output = json.dumps(key, ensure_ascii=False)
    first = text.find(output)
    second = text.find(output, first + 1)
    return f"{location} line {text.count(chr(10), 0, second) + 1}" if second > 0 else location

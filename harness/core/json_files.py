"""Reads files of unknown origin as bytes, text or JSON; every error is one `InputError` with file, line and field."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from harness.errors import InputError

GZIP = b"\x1f\x8b"  # how such a file begins
ENCODINGS = {  # by the first bytes, the longest ones first; without a mark text of two bytes a letter has zeros
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
BINARY = {  # first bytes of files that are no text
    b"PK\x03\x04": "a zip archive or a workbook: save the table as CSV, UTF-8",
    b"\xd0\xcf\x11\xe0": "a workbook: save the table as CSV, UTF-8",
    b"PAR1": "Parquet: let its name end in .parquet",
    b"\x93NUMPY": "an array of NumPy",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it",
    b"BZh": "compressed by bzip2: unpack it",
    b"\xfd7zXZ": "compressed by xz: unpack it",
    GZIP: "gzipped twice: unpack it once",
}
REFETCH = "download the file again"
REWRITE = "write the file again"
REFILL = "write the data to it again"
MAX_DECOMPRESSED_BYTES = 1 << 26  # allowed for any file
MAX_RATIO = 100  # of larger files: maximal compression ratio
SMALL = 1 << 20  # maximal bytes of a file written by hand: a configuration, a grid, a search space


def read_text(path: Path, max_bytes: int | None = None) -> str:
    """The file as text, without byte order mark: UTF-16 if it has that of UTF-16, else UTF-8. It must exist and not be
    empty, and have at most `max_bytes` bytes (None: limited by memory)."""
    try:
        limit = room() if max_bytes is None else max_bytes
        raw = _limited(path, limit)
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=path, hint="check the path", code="missing-file") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the file cannot be read ({reason})", where=path, code="unreadable-file") from error
    if raw is None:
        message = "too large for this machine's memory" if max_bytes is None else f"more than {max_bytes:,} bytes"
        raise InputError(message, where=path, hint="check that it is the right file", code="too-large")
    try:
        text = raw.decode(_encoding(raw))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        hint = f"save the file as UTF-8: iconv -f latin1 -t utf-8 {path.name}, if it is Latin-1"
        kind = next((f"it is {kind}" for start, kind in BINARY.items() if raw.startswith(start)), hint)
        raise InputError("not UTF-8 text", where=f"{path} line {line}", hint=kind, code="unreadable-file") from error
    if not text.strip():
        raise InputError("the file is empty", where=path, hint=REFILL, code="empty-data")
    return text


def _packed(path: Path) -> bool:
    """Whether the file is gzipped, by its first bytes: browsers unpack a .gz and keep its name."""
    if not path.is_file():  # a pipe is read once
        return path.suffix.lower() == ".gz"
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def _encoding(start: bytes) -> str:
    """
    >>> _encoding("user".encode("utf-16-le")), _encoding("user".encode("utf-16-be")), _encoding(b"user")
    ('utf-16-le', 'utf-16-be', 'utf-8-sig')
    """
    if start[:1] and b"\0" in start[:2] and start[:2] != b"\0\0":
        return "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    return next((name for mark, name in ENCODINGS.items() if start.startswith(mark)), "utf-8-sig")


def _limited(path: Path, limit: int) -> bytes | None:
    """Content of a file, which may be gzipped, or of a pipe; None if it has more than `limit` bytes."""
    is_packed = _packed(path)
    if path.is_file() and not is_packed:  # its size is known before it is read
        return path.read_bytes() if path.stat().st_size <= limit else None
    with _unpacked(path) if is_packed else path.open("rb") as file:
        parts, size = [], 0
        while part := file.read(1 << 16):
            size += len(part)
            if size > limit:
                return None
            parts.append(part)
        return b"".join(parts)


def room() -> int:
    """Maximal bytes of text read at once: a sixteenth of the free memory, as parsed values need several times
    as much."""
    import psutil

    return psutil.virtual_memory().available // 16


@contextmanager
def open_text(path: Path, newline: str = "") -> Iterator[TextIO]:
    """The file as text for reading by lines (`newline` as in `open`), decompressed if it is gzipped; encoding and
    errors as in `read_text`, also while reading."""
    try:
        with _unpacked(path) if _packed(path) else path.open("rb") as content:
            encoding = _encoding(content.peek(4))
            with io.TextIOWrapper(content, encoding, newline=newline) as file:
                yield file
    except (OSError, UnicodeDecodeError):
        read_text(path)  # raises the error with its location
        raise


@contextmanager
def _unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """Content of a gzip file. Raises `InputError` if it is truncated, corrupt, or expands too much."""
    try:
        with path.open("rb") as packed, gzip.open(packed) as content:
            yield io.BufferedReader(BoundedDecompressor(content, packed, str(path)))
    except EOFError as error:
        raise InputError("the gzip file is cut off", where=path, hint=REFETCH, code="bad-file") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"the compressed file is broken ({error})", where=path, hint=REFETCH, code="bad-file"
        ) from error


class BoundedDecompressor(io.RawIOBase):
    """A decompressed stream with a maximal compression ratio, against decompression bombs."""

    def __init__(self, content: IO[bytes] | gzip.GzipFile, file: IO[bytes], name: str) -> None:
        self._content, self._file, self._name, self._size = content, file, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._content.read(len(buffer))
        buffer[: len(part)] = part
        self._size += len(part)
        if self._size > MAX_DECOMPRESSED_BYTES and self._size > MAX_RATIO * self._file.tell():
            message = f"{self._size:,} bytes from {self._file.tell():,} compressed: this cannot be text"
            raise InputError(message, where=self._name, hint=REFETCH, code="too-large")
        return len(part)


def read_json(path: Path) -> Any:
    """The JSON value in the file. A repeated key is an error: JSON would take the last."""
    return parse_json(read_text(path), str(path))


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file, which must not be empty."""
    value = read_json(path)
    if not isinstance(value, dict):
        message, hint = "the top level must be a JSON object", 'begin with {"id": …}'
        raise InputError(message, where=path, hint=hint, code="bad-file")
    if not value:
        raise InputError("the JSON object is empty", where=path, hint=REFILL, code="empty-data")
    return value


def parse_json(text: str, location: str) -> Any:
    """Parses JSON. Raises `InputError` for invalid JSON, for a repeated key, and for what Python parses but cannot
    process: deep nesting, numbers of thousands of digits, lone surrogates."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            names: set[str] = set()
            key = next(key for key, _ in pairs if key in names or names.add(key))
            place = _place(location, text, key)
            raise InputError(f"key {key!r} is repeated", where=place, hint="keep one of the two", code="duplicate")
        return entries

    try:
        value = json.loads(text, object_pairs_hook=unique)
        if "\\u" in text:  # an escape may be a lone surrogate, which cannot be encoded
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"{location} line {error.lineno} column {error.colno}"
        raise InputError(f"not JSON ({error.msg})", where=place, hint=REWRITE, code="bad-file") from error
    except RecursionError as error:
        raise InputError("JSON nested too deeply", where=location, code="bad-file") from error
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.start + 1]
        message, hint = f"{half!r} is a lone surrogate", f"{REWRITE} as UTF-8"
        raise InputError(message, where=location, hint=hint, code="unreadable-file") from error
    except ValueError as error:  # Python parses no integer of more than 4,300 digits
        raise InputError("a number is too long", where=location, hint=REWRITE, code="bad-file") from error
    return value


def _place(location: str, text: str, key: str) -> str:
    """`where line N`, with the line of the second occurrence of `key`."""
    output = json.dumps(key, ensure_ascii=False)
    first = text.find(output)
    second = text.find(output, first + 1)
    return f"{location} line {text.count(chr(10), 0, second) + 1}" if second > 0 else location

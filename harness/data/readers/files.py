"""Reading files that people made: every fault becomes one `InputError` that names file, line and field.

Owns bytes to text to JSON. What the fields mean is each reader's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from harness.errors import InputError


def read_text(path: Path) -> str:
    """The file as UTF-8 text (a byte order mark is dropped); it must exist and hold something."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), mend="check the path") from error
    except OSError as error:
        raise InputError(f"the file cannot be read ({error.strerror})", where=str(path)) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError("not UTF-8 text", where=f"{path} line {line}", mend="save the file as UTF-8") from error
    if not text.strip():
        raise InputError("the file is empty", where=str(path), mend="write the data to it again")
    return text


@contextmanager
def open_text(path: Path, newline: str = "") -> Iterator[TextIO]:
    """The file as UTF-8 text, line by line (`newline` as for `open`); faults as `read_text` tells them, also those that
    are met half way through."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
    except (OSError, UnicodeDecodeError):
        read_text(path)  # which says what is wrong, and where
        raise


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in the file. A key that stands twice is an error: JSON would quietly keep the last."""
    text = read_text(path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            key = next(key for key, _ in pairs if key in seen or seen.add(key))
            raise InputError(f"key {key!r} stands twice", where=_place(path, text, key), mend="keep one of the two")
        return found

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        where = f"{path} line {error.lineno} column {error.colno}"
        raise InputError(f"not JSON ({error.msg})", where=where, mend="write the file again") from error
    except RecursionError as error:
        raise InputError("JSON nested too deeply", where=str(path)) from error
    if not isinstance(value, dict):
        raise InputError("a JSON object is needed at the top", where=str(path), mend='begin with {"id": …}')
    if not value:
        raise InputError("the JSON object is empty", where=str(path), mend="write the data to it again")
    return value


def _place(path: Path, text: str, key: str) -> str:
    """`path line N`, with the line of the second place where `key` is written as a key."""
    written = json.dumps(key, ensure_ascii=False)
    first = text.find(written)
    second = text.find(written, first + 1)
    return f"{path} line {text.count(chr(10), 0, second) + 1}" if second > 0 else str(path)

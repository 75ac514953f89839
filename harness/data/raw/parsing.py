"""One record of a raw file: parsing to a mapping, and a check that it belongs to the expected release."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from json import JSONDecodeError
from typing import Any

from harness.core.json_files import REFETCH
from harness.data.raw.releases import RawFile, Release, releases
from harness.data.raw.streams import RawFileHandle
from harness.errors import InputError

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
DEEPEST = 1 << 20  # bytes of a Python literal: real ones have some thousands


class WrongLine(InputError):
    """An error of one line of a raw file; other lines may be valid."""

    code = "bad-line"


def packed(error: InputError) -> str:
    """A line's error as one text, which `unpacked` reverses."""
    return json.dumps([error.what, error.where, error.hint, error.code])


def unpacked(text: str) -> InputError:
    """The error that `packed` has written."""
    label, location, hint, code = json.loads(text)
    return WrongLine(label, where=location, hint=hint, code=code)


def parsed(file_handle: RawFileHandle, line: int, content: bytes, parse: Callable[[bytes], Any]) -> Mapping[str, Any]:
    """The object on a line; `InputError` for bytes that are no UTF-8, a line that is not JSON, or no object."""
    try:
        record = parse(content)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise _unreadable(file_handle, line, content, error) from error
    if not isinstance(record, Mapping):
        raise WrongLine(f"an object is needed, not {type(record).__name__}", where=file_handle.at(line), hint=REFETCH)
    return record


def literal(content: bytes) -> Any:
    """A Python literal (the 2014 metadata are written so), read without running anything.

    >>> literal(b"{'asin': 'B0', 'title': 'Bob\\\\'s', 'price': 1.5}")
    {'asin': 'B0', 'title': "Bob's", 'price': 1.5}
    >>> literal(rb"{'asin': 'B0', 'title': '\\ud83c\\udfb8 \\ud800'}")["title"] == "\\U0001f3b8 \\ufffd"
    True
    """
    if len(content) > DEEPEST:
        raise ValueError(f"a line of {len(content):,} bytes")
    value = ast.literal_eval(content.decode("utf-8").strip())
    return _paired(value) if SURROGATE.search(content) else value


def _paired(value: Any) -> Any:
    """With halves of a UTF-16 character joined, and U+FFFD for one alone, which no file can hold."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, Mapping):
        return {_paired(key): _paired(below) for key, below in value.items()}
    return [_paired(below) for below in value] if isinstance(value, (list, tuple, set)) else value


def foreign(file_handle: RawFileHandle, release: Release, record: Mapping[str, Any]) -> None:
    """Raises `InputError` where a record has fields of another release, and none that only this one has."""
    if not file_handle.spec.marks or any(mark in record for mark in file_handle.spec.marks):
        return
    candidates = [
        (sum(mark in record for mark in spec.marks), other, spec)
        for other in releases().values()
        for spec in (*other.interactions, *other.metadata)
        if other.key != release.key or spec not in _alike(release, file_handle.spec)
    ]
    count, other, spec = max(candidates, key=lambda entry: entry[0])
    if count:
        history = ", ".join(mark for mark in spec.marks if mark in record)
        expected, needed = (file.file.format(category="CATEGORY") for file in (spec, file_handle.spec))
        message = f"it has {history}, as {expected} of {other.title} has, and nothing that {needed} has"
        raise InputError(
            message, where=file_handle.at(1), hint=f"give the file of {release.title}", code="missing-column"
        )


def _alike(release: Release, spec: RawFile) -> tuple[RawFile, ...]:
    return release.interactions if spec in release.interactions else release.metadata


def _unreadable(file_handle: RawFileHandle, line: int, content: bytes, error: BaseException) -> InputError:
    location = file_handle.at(line)
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return WrongLine("not UTF-8 text", where=location, hint=REFETCH)
    if file_handle.spec.format == "json":
        if text.startswith("{'"):
            label = "a Python literal, as in the metadata of Amazon Reviews 2014, where JSON is needed"
            return InputError(
                label, where=location, hint="give the file of the release that you prepare", code="bad-line"
            )
        message = f"{error.msg}, character {error.pos + 1}" if isinstance(error, JSONDecodeError) else error
        return WrongLine(f"not JSON ({message})", where=location, hint=REFETCH)
    message = getattr(error, "msg", None) or error
    return WrongLine(f"not a Python literal ({message})", where=location, hint=REFETCH)

"""One record of a raw file: parsing to a mapping, and a check that it belongs to the expected release.

`read_metadata` reads the items of a metadata file, and the texts of those that may remain, line by line. Raw text is
freed once it is cleaned; text of items that the k-core certainly removes is not cleaned.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from json import JSONDecodeError
from typing import Any

import numpy as np
import orjson

from harness.core.json_files import REFETCH
from harness.data.dataset import ItemText
from harness.data.download import Progress
from harness.data.raw.releases import Release, releases
from harness.data.raw.streams import RawFileHandle
from harness.data.readers.item_texts import NoText, TextMode, fuller, item_text
from harness.data.reading import PLAIN, BadLines, Reading, WrongLine
from harness.errors import InputError, quote

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
DEEPEST = 1 << 20  # bytes of a Python literal: real ones have some thousands
# The 2014 files begin nearly every line with the item's id: a line of an item that is not requested is not parsed
# further.
FIRST_ID = re.compile(rb"\{'asin': '([^'\\]+)', ")


def decoded(file_handle: RawFileHandle, line: int, content: bytes) -> str:
    """A line as text, without its end: UTF-8, or, where it is not and the release has another encoding, that."""
    for encoding in dict.fromkeys(("utf-8", file_handle.spec.encoding)):
        with suppress(UnicodeDecodeError):
            return content.decode(encoding).rstrip("\r\n")
    raise WrongLine(f"not {file_handle.spec.encoding.upper()} text", where=file_handle.at(line), hint=REFETCH)


def record_of(
    file_handle: RawFileHandle, release: Release, line: int, content: bytes, first: bool
) -> Mapping[str, Any] | None:
    """The fields of a line by the release's names, None for a header. The `first` line is checked to be of `release`.

    Raises `InputError` for a file of another release, and `WrongLine` for a line that cannot be read.
    """
    spec = file_handle.spec
    if spec.format in ("json", "literal"):
        record = _parsed(file_handle, line, content)
        if first:
            _check_marks(file_handle, release, record)
        return record
    mark = "::" if spec.format == "colons" else ","
    parts = decoded(file_handle, line, content).split(mark)
    names = [spec.field_name(column) for column in spec.columns]
    if first and "time" in spec.columns:
        if spec.header and parts == names:
            return None
        _check_header(file_handle, release, parts, names)
    if len(parts) != len(names):
        message = f"{len(parts)} fields where {len(names)} are needed ({mark.join(spec.columns)})"
        raise WrongLine(message, where=file_handle.at(line), hint="the file is damaged, or of another release")
    return dict(zip(names, parts, strict=True))


def _check_header(file_handle: RawFileHandle, release: Release, parts: list[str], names: list[str]) -> None:
    """The first line of a file with columns: the release's header, or data where it has none."""
    message, hint = "", f"give the file of {release.title}"
    if file_handle.spec.header:
        message = f"the header is not {','.join(names)}"
    elif not any(sign.isdigit() for part in parts for sign in part):
        message = f"a header ({','.join(parts)}), where {release.title} has none"
        hint = "is it a file of another release? give that of this one"
    if message:
        raise InputError(message, where=file_handle.at(1), hint=hint, code="bad-line")


def raw_id(file_handle: RawFileHandle, line: int, value: object, kind: str) -> str:
    """The id of a user or an item, which must be text."""
    if isinstance(value, str) and value.strip():
        return value
    message = "it is missing" if value is None else f"{quote(value)} is no id"
    location = file_handle.at(line, file_handle.spec.field_name(kind))
    raise WrongLine(message, where=location, hint=f"every line needs {'an item' if kind == 'item' else 'a user'}")


def _parsed(file_handle: RawFileHandle, line: int, content: bytes) -> Mapping[str, Any]:
    """The object on a line; `InputError` for bytes that are no UTF-8, a line that is not JSON, or no object."""
    try:
        record = (literal if file_handle.spec.format == "literal" else orjson.loads)(content)
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


def _check_marks(file_handle: RawFileHandle, release: Release, record: Mapping[str, Any]) -> None:
    """Raises `InputError` where a record has fields of another release, and none that only this one has."""
    if not file_handle.spec.marks or any(mark in record for mark in file_handle.spec.marks):
        return
    specs = release.interactions if file_handle.spec in release.interactions else release.metadata
    candidates = [
        (sum(mark in record for mark in spec.marks), other, spec)
        for other in releases().values()
        for spec in (*other.interactions, *other.metadata)
        if other.key != release.key or spec not in specs
    ]
    count, other, spec = max(candidates, key=lambda entry: entry[0])
    if count:
        history = ", ".join(mark for mark in spec.marks if mark in record)
        expected, required = (file.file.format(category="CATEGORY") for file in (spec, file_handle.spec))
        message = f"it has {history}, as {expected} of {other.title} has, and nothing that {required} has"
        hint = f"give the file of {release.title}"
        raise InputError(message, where=file_handle.at(1), hint=hint, code="missing-column")


def _unreadable(file_handle: RawFileHandle, line: int, content: bytes, error: BaseException) -> InputError:
    location = file_handle.at(line)
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return WrongLine("not UTF-8 text", where=location, hint=REFETCH)
    if file_handle.spec.format == "json":
        if text.startswith("{'"):
            label = "a Python literal, as in the metadata of Amazon Reviews 2014, where JSON is needed"
            hint = "give the file of the release that you prepare"
            return InputError(label, where=location, hint=hint, code="bad-line")
        message = f"{error.msg}, character {error.pos + 1}" if isinstance(error, JSONDecodeError) else error
        return WrongLine(f"not JSON ({message})", where=location, hint=REFETCH)
    message = getattr(error, "msg", None) or error
    return WrongLine(f"not a Python literal ({message})", where=location, hint=REFETCH)


@dataclass(frozen=True)
class Metadata:
    """`known[i]`: the file describes item `i` of the log. `texts` has the requested ones, by raw id.

    `lines` counts records, `unrated` those of items without interactions, `twice` the requested items with several
    records of different text. `left_out` is a note on lines that are wrong, if any.
    """

    known: np.ndarray
    texts: dict[str, ItemText] = field(default_factory=dict)
    lines: int = 0
    unrated: int = 0
    twice: int = 0
    left_out: tuple[str, ...] = ()


def read_metadata(
    file_handle: RawFileHandle,
    release: Release,
    items: Sequence[str],
    wanted: np.ndarray,
    mode: TextMode = "clean",
    progress: Progress | None = None,
    reading: Reading = PLAIN,
) -> Metadata:
    """The metadata of `items` (raw ids), with the text of those that are `wanted` (bool, one an item), cleaned as
    `mode` says.

    For an item with two records the last one is used with `released`, as published; otherwise the longer text, so
    that the order of lines has no effect. Raises `InputError` with file, line and field for the first wrong
    line, where there are more of those than `reading` tolerates.
    """
    spec = file_handle.spec
    fields = spec.fields or {column: column for column in spec.columns}
    codes = {raw: code for code, raw in enumerate(items)}

    def is_wanted(raw: str) -> bool:
        code = codes.get(raw)
        return code is not None and bool(wanted[code])

    def read(line: int, content: bytes, first: bool) -> tuple[str, ItemText | None]:
        is_literal = spec.format == "literal" and not first
        if is_literal and (match := FIRST_ID.match(content)) and content.rstrip().endswith(b"}"):
            raw = decoded(file_handle, line, match.group(1))
            if not is_wanted(raw):
                return raw, None
        record = record_of(file_handle, release, line, content, first) or {}
        raw = raw_id(file_handle, line, record.get(spec.field_name("item")), "item")
        try:
            return raw, item_text(record, fields, mode, spec.extra) if is_wanted(raw) else None
        except NoText as error:
            raise WrongLine(error.args[0], where=file_handle.at(line, error.args[1]), hint=REFETCH) from error

    known = np.zeros(len(items), bool)
    texts: dict[str, ItemText] = {}
    lines = unrated = 0
    duplicates: set[str] = set()
    bad = BadLines(file_handle.path.name, reading)
    for raw, text in file_handle.rows(read, bad, progress):
        lines += 1
        if raw not in codes:
            unrated += 1
            continue
        known[codes[raw]] = True
        if text is None:
            continue
        if (previous := texts.get(raw)) is not None and previous != text:
            duplicates.add(raw)
            text = text if mode == "released" else fuller(previous, text)
        texts[raw] = text
    left_out = bad.settle(lines + bad.count)
    if not lines:
        raise InputError("the file describes no item", where=file_handle.name, hint=REFETCH, code="empty-data")
    return Metadata(known, texts, lines, unrated, len(duplicates), left_out)

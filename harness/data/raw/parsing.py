"""One record of a raw file: parsing to a mapping, and a check that it belongs to the expected release.

`read_metadata` reads the items of a metadata file, and the texts of those that may remain, line by line. Raw text is
freed once it is cleaned; text of items that the k-core certainly removes is not cleaned.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from harness.core.json_files import REFETCH
from harness.data.dataset import ItemText
from harness.data.download import Progress
from harness.data.raw.releases import RawFile, Release, releases
from harness.data.raw.streams import RawFileHandle, ResumableRows, Row
from harness.data.raw.text_cleaning import NoText, TextMode, fuller, item_text
from harness.data.reading import PLAIN, BadLines, Reading
from harness.errors import InputError, quote

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
DEEPEST = 1 << 20  # bytes of a Python literal: real ones have some thousands
# The 2014 files begin nearly every line with the item's id: a line of an item that is not requested is not parsed
# further.
FIRST_ID = re.compile(rb"\{'asin': '([^'\\]+)', ")


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


def decoded(file_handle: RawFileHandle, line: int, content: bytes) -> str:
    """A line as text, without its end: UTF-8, or, where it is not and the release has another encoding, that."""
    for encoding in dict.fromkeys(("utf-8", file_handle.spec.encoding)):
        with suppress(UnicodeDecodeError):
            return content.decode(encoding).rstrip("\r\n")
    raise WrongLine(f"not {file_handle.spec.encoding.upper()} text", where=file_handle.at(line), hint=REFETCH)


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


@dataclass(frozen=True)
class RequestedItems:
    """The requested metadata: raw ids of `items`, which of them need `text` (bool, one an item), and the `mode` of
    cleaning."""

    items: list[str]
    text: np.ndarray
    mode: TextMode = "clean"


def read_metadata(
    file_handle: RawFileHandle,
    release: Release,
    requested: RequestedItems,
    progress: Progress | None = None,
    path: Path | None = None,
    reading: Reading = PLAIN,
) -> Metadata:
    """The metadata of the requested items; rows are saved in the folder `path`, as by `read_log`.

    For an item with two records the last one is used with `released`, as published; otherwise the longer text, so
    that the order of lines has no effect. Raises `InputError` with file, line and field for the first wrong
    line, where there are more of those than `reading` tolerates.
    """
    import pyarrow as pa

    place = {raw: code for code, raw in enumerate(requested.items)}
    names = np.zeros(len(place), bool)
    texts: dict[str, ItemText] = {}
    lines = unrated = 0
    duplicates: set[str] = set()
    types = (pa.string(), pa.string(), pa.string(), pa.string(), pa.list_(pa.string()))
    bad, records = (
        BadLines(file_handle.path.name, reading),
        _Records(file_handle, release, place, requested, reading),
    )
    for raw, *text in ResumableRows(path, types).rows(file_handle, records.checked, progress):
        if raw is None:
            bad.add(unpacked(text[0]), lines + bad.count + 1)
            continue
        lines += 1
        if (code := place.get(raw)) is None:
            unrated += 1
            continue
        names[code] = True
        if text[0] is None:
            continue
        current_item_text = ItemText(*text[:3], categories=tuple(text[3]))
        if (previous := texts.get(raw)) is not None and previous != current_item_text:
            duplicates.add(raw)
            current_item_text = (
                current_item_text if requested.mode == "released" else fuller(previous, current_item_text)
            )
        texts[raw] = current_item_text
    left_out = bad.settle(lines + bad.count)
    if not lines:
        raise InputError("the file describes no item", where=file_handle.name, hint=REFETCH, code="empty-data")
    return Metadata(names, texts, lines, unrated, len(duplicates), left_out)


@dataclass(frozen=True)
class _Records:
    """Parses a line to an item's raw id and its title, description, brand and categories; these are None if the text is
    not requested."""

    found: RawFileHandle
    release: Release
    place: Mapping[str, int]
    wanted: RequestedItems
    reading: Reading

    def checked(self, line: int, content: bytes, first: bool) -> Row:
        """As `read`; for a wrong line a row without an id, with the error in place of the title."""
        try:
            return self.read(line, content, first)
        except WrongLine as error:
            if not self.reading.bad_lines:
                raise
            return None, packed(error), None, None, None

    def read(self, line: int, content: bytes, first: bool) -> Row:
        raw, record = self._record(line, content, first)
        code = self.place.get(raw)
        if code is None or record is None or not self.wanted.text[code]:
            return raw, None, None, None, None
        spec = self.found.spec
        fields = spec.fields or {column: column for column in spec.columns}
        try:
            text = item_text(record, fields, self.wanted.mode, spec.extra)
        except NoText as error:
            raise WrongLine(error.args[0], where=self.found.at(line, error.args[1]), hint=REFETCH) from error
        return raw, text.title, text.description, text.brand, text.categories

    def _record(self, line: int, content: bytes, first: bool) -> tuple[str, Mapping[str, Any] | None]:
        spec = self.found.spec
        if spec.format == "literal" and not first and (raw := self._skipped(line, content)) is not None:
            return raw, None
        if spec.format == "colons":
            parts = decoded(self.found, line, content).split("::")
            if len(parts) != len(spec.columns):
                message = f"{len(parts)} fields where {len(spec.columns)} are needed ({'::'.join(spec.columns)})"
                raise WrongLine(message, where=self.found.at(line), hint=REFETCH)
            record: Mapping[str, Any] = dict(zip(spec.columns, parts, strict=True))
        else:
            record = parsed(self.found, line, content, literal if spec.format == "literal" else orjson.loads)
            if first:
                foreign(self.found, self.release, record)
        return self._id(line, record), record

    def _id(self, line: int, record: Mapping[str, Any]) -> str:
        name = self.found.spec.fields.get("item", "item")
        raw = record.get(name)
        if isinstance(raw, str) and raw.strip():
            return raw
        message = "it is missing" if raw is None else f"{quote(raw)} is no id"
        raise WrongLine(message, where=self.found.at(line, name), hint="every line needs an item")

    def _skipped(self, line: int, content: bytes) -> str | None:
        """The id of an item whose text is not requested, if the line begins with the id and is complete."""
        match = FIRST_ID.match(content)
        if match is None or not content.rstrip().endswith(b"}"):
            return None
        raw = decoded(self.found, line, match.group(1))
        code = self.place.get(raw)
        return raw if code is None or not self.wanted.text[code] else None

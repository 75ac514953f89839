"""Tables as text: CSV with commas, semicolons, tabs, bars or double colons, JSON lines, and JSON lists of objects;
plain or gzipped.

Parses bytes to named columns; `csv_tables` interprets them.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from harness.core.json_files import open_text, parse_json, read_json, read_text
from harness.data.reading import BadLines, Reading
from harness.errors import InputError

LONGEST_FIELD = 2**31 - 1  # the csv module's own limit, 131,072, is shorter than some descriptions
SEPARATORS = (",", "\t", ";", "|")
COLONS, UNIT = "::", "\x1f"  # two colons are read as one character, for the csv module
BLANKS = " "  # of headerless files, one or several
CSV_ENDINGS = (".csv", ".tsv", ".tab", ".csv.gz", ".tsv.gz")
LINE_ENDINGS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
JSON_ENDINGS = (*LINE_ENDINGS, ".json.gz")
ENDINGS = (*CSV_ENDINGS, *JSON_ENDINGS)
TEXT_ENDINGS = tuple(f"{ending}{packed}" for ending in (".txt", ".dat", ".log") for packed in ("", ".gz"))
PARTS = ("train", "valid", "test")
_PART = re.compile(r"(?P<name>.*?)(?:^|[._-])(?P<part>train|training|valid|validation|val|dev|test)", re.IGNORECASE)
_SHARD = re.compile(r"(?P<name>.*?)(?:^|[._-])(?:part-\d+\S*|\d{3,}-of-\d{3,})", re.IGNORECASE)
_DELIMITERS = {COLONS: UNIT}


@dataclass(frozen=True, eq=False)
class TableFile:
    """Rows in file order; `lines[n]` is the last line of row `n`. `bad` has the lines that are no rows of it, `notes`
    what was decided in reading it."""

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]
    bad: BadLines
    notes: tuple[str, ...] = ()

    def column(self, name: str | None) -> list[str]:
        """One column; empty strings where the file has no such column."""
        if name not in self.columns:
            return [""] * len(self.rows)
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def stem(path: Path) -> str:
    """The file's name without the endings of a table.

    >>> stem(Path("log.csv.gz")), stem(Path("my.shop.jsonl"))
    ('log', 'my.shop')
    """
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def parts_of(paths: Sequence[Path]) -> tuple[str, list[Path]]:
    """The name and the files of a table that stands in several: a train, valid and test file, or shards
    (`part-00000.csv`, `NAME-00000-of-00002.parquet`). No files where `paths` are not those of one table."""
    parts = [_PART.fullmatch(stem(path)) for path in paths]
    if len(paths) > 1 and all(parts):
        order = {part["part"].lower()[:2]: path for part, path in zip(parts, paths, strict=True) if part}
        names = {part["name"] for part in parts if part}
        if len(order) == len(paths) and len(names) == 1 and "tr" in order:
            ranks = {"tr": 0, "va": 1, "de": 1, "te": 2}
            return names.pop(), [order[key] for key in sorted(order, key=ranks.__getitem__)]
    shards = [_SHARD.fullmatch(stem(path)) for path in paths]
    names = {shard["name"] for shard in shards if shard}
    return (names.pop(), sorted(paths)) if len(paths) > 1 and all(shards) and len(names) == 1 else ("", [])


def is_json_table(path: Path) -> bool:
    """Whether a JSON file holds rows: it begins with two lines that are an object each, or it is a list of objects."""
    with open_text(path, "\n") as file:
        lines = [line.strip() for line, _ in zip(filter(str.strip, file), range(2), strict=False)]
    objects = len(lines) == 2 and all(line.startswith("{") and line.endswith("}") for line in lines)
    return objects or bool(lines and lines[0].startswith("["))


def read_table(path: Path, reading: Reading) -> TableFile:
    """The table in a file: JSON lines by its ending, else CSV, whose separator is that of the header.

    Raises `InputError` for a file without rows, a column that stands twice, broken quotes, and more wrong lines than
    may be.
    """
    bad = BadLines(path.name, reading)
    if path.name.lower().endswith((*JSON_ENDINGS, ".json")):
        table = _json_lines(path, bad)
    else:
        table = _csv(path, bad, headless=bool(reading.columns) and all(name.isdecimal() for _, name in reading.columns))
    if not table.rows and not bad.count:
        raise InputError(
            "no rows after the header", where=str(path), hint="write the data to it again", code="empty-data"
        )
    return table


def read_tables(paths: Sequence[Path], reading: Reading) -> TableFile:
    """Several files as one table: the rows of one after the other. Raises `InputError` where their columns differ."""
    first, *others = [read_table(path, reading) for path in paths]
    for other in others:
        if set(other.columns) != set(first.columns):
            message = f"its columns ({','.join(other.columns)}) are not those of {first.path.name}"
            hint = f"give all files the columns {','.join(first.columns)}, or give one file"
            raise InputError(message, where=str(other.path), hint=hint, code="missing-column")
        first.rows.extend(map(list, zip(*(other.column(name) for name in first.columns), strict=True)))
        first.lines.extend(other.lines)
        first.bad.join(other.bad)
    listed = ", ".join(path.name for path in paths)
    return replace(first, notes=(*first.notes, f"{listed} are joined; the protocol splits them again"))


def separator_of(header: str, *, headless: bool = False) -> str:
    """The separator of a header: the one that gives most fields, a comma if none does; blanks only of a file without a
    header.

    >>> separator_of("user;item;time"), separator_of("user\\titem"), separator_of("user"), separator_of("1::5::3")
    (';', '\\t', ',', '::')
    """
    if COLONS in header and "\t" not in header:
        return COLONS
    best = max(SEPARATORS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
    return BLANKS if headless and best not in header and BLANKS in header.strip() else best


def _csv(path: Path, bad: BadLines, *, headless: bool) -> TableFile:
    """`headless`: columns go by their numbers, from 1. Where quotes are broken, they are read as any other character in
    a file parted by tabs, and elsewhere with backslashes as escapes."""
    csv.field_size_limit(LONGEST_FIELD)
    with open_text(path) as file:
        skipped, first = first_line(file)
    if not first.strip():
        read_text(path)  # which says so where the file is empty
    separator = separator_of(first.rstrip("\r\n"), headless=headless)
    try:
        return _rows(path, bad, separator, skipped, headless=headless)
    except _BrokenQuotes as error:
        if separator == "\t":
            form, note = {"quoting": csv.QUOTE_NONE}, "quotes are read as any other character"
        else:
            form, note = {"doublequote": False, "escapechar": "\\"}, "backslashes before quotes are read as escapes"
        again = BadLines(path.name, bad.reading)
        try:
            table = _rows(path, again, separator, skipped, headless=headless, **form)
        except _BrokenQuotes:
            raise error.cause from error
        if not table.rows or again.count > bad.reading.tolerated(len(table.rows) + again.count):
            raise error.cause from error
        return replace(table, notes=(*table.notes, f"{path.name}: {note}"))


class _BrokenQuotes(Exception):
    def __init__(self, cause: InputError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def first_line(file: TextIO) -> tuple[int, str]:
    """The first line that is not a comment or Excel's `sep=`, and how many are before it."""
    for skipped, line in enumerate(file):
        comment = line.startswith(("#", "%")) and len(line.split(separator_of(line.rstrip("\r\n")))) == 1
        if not comment and not re.fullmatch(r"sep=.\s*", line):
            return skipped, line
    return 0, ""


def _rows(path: Path, bad: BadLines, separator: str, skipped: int, *, headless: bool, **form: Any) -> TableFile:
    rows, lines, columns, header, repeats = [], [], [], [], 0
    with open_text(path) as file:
        for _ in range(skipped):
            file.readline()
        reader = csv.reader(
            _plain(file, separator), delimiter=_DELIMITERS.get(separator, separator), strict=True, **form
        )
        try:
            for row in reader:
                line = reader.line_num + skipped
                if not columns:
                    columns = [str(n) for n, _ in enumerate(row, 1)] if headless else [name.strip() for name in row]
                    _check_header(path, columns)
                    if not headless:
                        header = row
                        continue
                if not any(row):
                    continue
                if row == header:
                    repeats += 1
                    continue
                if len(row) > len(columns) and not any(row[len(columns) :]):
                    row = row[: len(columns)]
                if len(row) != len(columns):
                    bad.add(_uneven(path, line, len(row), len(columns), separator), line)
                    continue
                rows.append(row)
                lines.append(line)
        except csv.Error as error:
            location, hint = f"{path} line {reader.line_num + skipped}", "correct the quotes"
            raise _BrokenQuotes(InputError(f"not CSV ({error})", where=location, hint=hint, code="bad-file")) from error
    return TableFile(path, columns, rows, lines, bad, repeated_header(path, repeats))


def repeated_header(path: Path, count: int) -> tuple[str, ...]:
    """A note on lines that repeat the header, as joined files have them."""
    return (f"{path.name}: {count:,} lines repeat the header and are left out",) if count else ()


def _plain(file: TextIO, separator: str) -> Iterator[str]:
    """Lines with a separator of one character."""
    if separator == COLONS:
        return (line.replace(COLONS, UNIT) for line in file)
    if separator == BLANKS:
        return (f"{BLANKS.join(line.split())}\n" for line in file)
    return file


def _uneven(path: Path, line: int, count: int, needed: int, separator: str) -> InputError:
    names = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", COLONS: "double colons", BLANKS: "blanks"}
    name = names[separator]
    message = f"{count} fields where the header has {needed}"
    return InputError(
        message,
        where=f"{path} line {line}",
        hint=f"part fields by {name}, and quote a field that holds one",
        code="bad-line",
    )


def _check_header(path: Path, columns: Sequence[str]) -> None:
    for column in columns:
        if column and columns.count(column) > 1:  # type: ignore[attr-defined]
            raise InputError(
                f"column {column!r} stands twice", where=f"{path} line 1", hint="keep one of the two", code="duplicate"
            )


def _json_lines(path: Path, bad: BadLines) -> TableFile:
    """One JSON object a row. Columns in order of first appearance; what a line lacks, or has as null, is empty."""
    records: list[dict[str, str]] = []
    lines: list[int] = []
    columns: dict[str, None] = {}
    for number, parse in _json_rows(path):
        try:
            record = parse()
            if not isinstance(record, dict):
                message = f"an object is needed, not {type(record).__name__}"
                raise InputError(message, hint='write {"user": …, "item": …} a line', code="bad-line")
        except InputError as error:
            location = f"{path} line {number}"
            bad.add(InputError(error.what, where=location, hint=error.hint, code=error.code), number)
            continue
        records.append({key: _cell(value) for key, value in record.items()})
        lines.append(number)
        columns.update(dict.fromkeys(record))
    if not records and not bad.count:
        read_text(path)
    return TableFile(path, list(columns), [[r.get(c, "") for c in columns] for r in records], lines, bad)


def _json_rows(path: Path) -> Iterator[tuple[int, Callable[[], Any]]]:
    """Number and content of each row: of a line, or of an element of a list, which is read as a whole. A content that
    is no JSON raises `InputError` when it is asked for."""
    with open_text(path, "\n") as file:
        first = next((line for line in file if line.strip()), "")
    if first.lstrip().startswith("[") and not path.name.lower().endswith(LINE_ENDINGS):
        listed = read_json(path)
        yield from ((number, partial(lambda record: record, record)) for number, record in enumerate(listed, start=1))
        return
    with open_text(path, "\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, partial(parse_json, line, f"{path} line {number}")


def _cell(value: Any) -> str:
    """A JSON value as a cell of CSV has it: lists stay JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)

"""Tables as text: CSV with commas, semicolons, tabs or bars, JSON lines, and JSON lists of objects; plain or gzipped.

Parses bytes to named columns; `csv_tables` interprets them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.core.json_files import open_text, parse_json, read_json, read_text
from harness.data.readers.bad_lines import BadLines
from harness.data.reading import Reading
from harness.errors import InputError

LONGEST_FIELD = 2**31 - 1  # the csv module's own limit, 131,072, is shorter than some descriptions
SEPARATORS = (",", "\t", ";", "|")
CSV_ENDINGS = (".csv", ".tsv", ".tab", ".csv.gz", ".tsv.gz")
LINE_ENDINGS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
JSON_ENDINGS = (*LINE_ENDINGS, ".json.gz")
ENDINGS = (*CSV_ENDINGS, *JSON_ENDINGS)


@dataclass(frozen=True, eq=False)
class TableFile:
    """Rows in file order; `lines[n]` is the last line of row `n`. `bad` has the lines that are no rows of it."""

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]
    bad: BadLines

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


def separator_of(header: str) -> str:
    """The separator of a header: the one that gives most fields, a comma if none does.

    >>> separator_of("user;item;time"), separator_of("user\\titem"), separator_of("user")
    (';', '\\t', ',')
    """
    return max(SEPARATORS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def _csv(path: Path, bad: BadLines, *, headless: bool) -> TableFile:
    """`headless`: columns go by their numbers, from 1."""
    csv.field_size_limit(LONGEST_FIELD)
    rows, lines, columns = [], [], []
    with open_text(path) as file:
        first = file.readline()
        if not first.strip():
            read_text(path)  # which says so where the file is empty
        separator = separator_of(first.rstrip("\r\n"))
        reader = csv.reader(_again(first, file), delimiter=separator, strict=True)
        try:
            for row in reader:
                if not columns:
                    columns = [str(n) for n, _ in enumerate(row, 1)] if headless else [name.strip() for name in row]
                    _check_header(path, columns)
                    if not headless:
                        continue
                if not row:
                    continue
                if len(row) != len(columns):
                    bad.add(_uneven(path, reader.line_num, len(row), len(columns), separator), reader.line_num)
                    continue
                rows.append(row)
                lines.append(reader.line_num)
        except csv.Error as error:
            location = f"{path} line {reader.line_num}"
            raise InputError(
                f"not CSV ({error})", where=location, hint="correct the quotes", code="bad-file"
            ) from error
    return TableFile(path, columns, rows, lines, bad)


def _again(first: str, file: Any) -> Any:
    yield first
    yield from file


def _uneven(path: Path, line: int, count: int, needed: int, separator: str) -> InputError:
    name = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}[separator]
    message = f"{count} fields where the header has {needed}"
    return InputError(
        message,
        where=f"{path} line {line}",
        hint=f"part fields by {name}, and quote a field that holds one",
        code="bad-line",
    )


def _check_header(path: Path, columns: Sequence[str]) -> None:
    for column in columns:
        if columns.count(column) > 1:  # type: ignore[attr-defined]
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

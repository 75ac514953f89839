"""Tables as text, parsed to named columns: CSV with commas, semicolons, tabs, bars or double colons, JSON lines, and
JSON lists of objects; plain or gzipped. The readers interpret the columns.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from harness.core.json_files import open_text, parse_json, read_json, read_text
from harness.data.reading import BadLines, Matched, Reading, WrongLine, matched, no_rows, twice
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
OBJECTS = 'write {"user": …, "item": …} a line'
PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class TableFile:
    """Rows in file order; `lines[n]` is the last line of row `n`. `bad` has the lines that are no rows, `notes` what
    was decided in reading it."""

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

    def settled_notes(self) -> tuple[str, ...]:
        """The notes, and one on the lines that are left out. Raises `InputError` where they are too many."""
        return (*self.notes, *self.bad.settle(len(self.rows) + self.bad.count))

    def matched(self, required: tuple[str, ...], optional: tuple[str, ...], reading: Reading) -> Matched:
        """Which columns are which; `InputError` where one of `required` is missing."""
        return matched(self.columns, required, optional, reading, f"{self.path} line 1")


def stem(path: Path) -> str:
    """The file's name without the endings of a table.

    >>> stem(Path("log.csv.gz")), stem(Path("my.shop.jsonl"))
    ('log', 'my.shop')
    """
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def read_table(path: Path, reading: Reading) -> TableFile:
    """The table in a file: JSON lines by its ending, else CSV, whose separator is that of the header.

    Raises `InputError` for a file without rows, a column that stands twice, broken quotes, and more wrong lines than
    may be.
    """
    bad = BadLines(path.name, reading)
    if path.name.lower().endswith((*JSON_ENDINGS, ".json")):
        table = _json_lines(path, bad)
    else:
        headless = bool(reading.columns) and all(name.isdecimal() for _, name in reading.columns)
        table = _csv(path, bad, headless=headless)
    if not table.rows and not bad.count:
        raise no_rows(path)
    return table


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
    names = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", COLONS: "double colons", BLANKS: "blanks"}
    hint = f"part fields by {names[separator]}, and quote a field that holds one"

    def read(bad: BadLines, **form: Any) -> TableFile:
        return table_of(path, _csv_rows(path, separator, skipped, **form), bad, hint, headless=headless)

    try:
        return read(bad)
    except _BrokenQuotes:
        form: dict[str, Any] = {"doublequote": False, "escapechar": "\\"}
        note = "backslashes before quotes are read as escapes"
        if separator == "\t":
            form, note = {"quoting": csv.QUOTE_NONE}, "quotes are read as any other character"
        bad_lines = BadLines(path.name, bad.reading)
        with suppress(_BrokenQuotes):
            table = read(bad_lines, **form)
            if table.rows and bad_lines.count <= bad.reading.tolerated(len(table.rows) + bad_lines.count):
                return replace(table, notes=(*table.notes, f"{path.name}: {note}"))
        raise


class _BrokenQuotes(InputError):
    code = "bad-file"


def first_line(file: TextIO) -> tuple[int, str]:
    """The first line that is not a comment or Excel's `sep=`, and how many are before it."""
    for skipped, line in enumerate(file):
        comment = line.startswith(("#", "%")) and len(line.split(separator_of(line.rstrip("\r\n")))) == 1
        if not comment and not re.fullmatch(r"sep=.\s*", line):
            return skipped, line
    return 0, ""


def _csv_rows(path: Path, separator: str, skipped: int, **form: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows behind the first `skipped` lines; `form` are options of the csv module. Raises `_BrokenQuotes`."""
    with open_text(path) as file:
        for _ in range(skipped):
            file.readline()
        lines: Iterable[str] = file
        if separator == COLONS:
            lines = (line.replace(COLONS, UNIT) for line in file)
        elif separator == BLANKS:
            lines = (f"{BLANKS.join(line.split())}\n" for line in file)
        reader = csv.reader(lines, delimiter=UNIT if separator == COLONS else separator, strict=True, **form)
        try:
            for row in reader:
                yield reader.line_num + skipped, row
        except csv.Error as error:
            location, hint = f"{path} line {reader.line_num + skipped}", "correct the quotes"
            raise _BrokenQuotes(f"not CSV ({error})", where=location, hint=hint) from error


def split_lines(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that is not blank, for `table_of`, where quotes have no meaning. Lines end with a
    line feed alone: a title may hold other line separators."""
    with open_text(path, "\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n").split(separator)


def table_of(
    path: Path,
    rows: Iterable[tuple[int, list[str]]],
    bad: BadLines,
    hint: str,
    *,
    headless: bool = False,
) -> TableFile:
    """A table of `rows`: a line's number and its fields. The first row is the header, or with `headless` it is data,
    whose columns go by their numbers, from 1.

    Rows that repeat the header are left out with a note, as are rows without content and empty fields behind the last
    column. A row with more or fewer fields is a wrong line with this `hint`.
    """
    names, header = [], None
    table_rows, lines, repeats = [], [], 0
    for line, row in rows:
        if not names:
            names = [str(n) for n, _ in enumerate(row, 1)] if headless else [name.strip() for name in row]
            if repeated := next((name for name in names if name and names.count(name) > 1), None):
                raise twice(repeated, f"{path} line 1")
            if not headless:
                header = row
                continue
        if len(row) > len(names) and not any(row[len(names) :]):
            row = row[: len(names)]
        if row == header:
            repeats += 1
        elif len(row) == len(names) and any(row):
            table_rows.append(row)
            lines.append(line)
        elif any(row):
            message = f"{len(row)} fields where {'the header has' if header else 'the first row has'} {len(names)}"
            bad.add(WrongLine(message, where=f"{path} line {line}", hint=hint), line)
    notes = (f"{path.name}: {repeats:,} lines repeat the header and are left out",) if repeats else ()
    return TableFile(path, names, table_rows, lines, bad, notes)


def _json_lines(path: Path, bad: BadLines) -> TableFile:
    """One JSON object a row. Columns in order of first appearance; what a line lacks, or has as null, is empty."""
    records: list[dict[str, str]] = []
    lines: list[int] = []
    columns: dict[str, None] = {}
    for number, record in _json_rows(path, bad):
        if isinstance(record, dict):
            records.append({key: _cell(value) for key, value in record.items()})
            lines.append(number)
            columns.update(dict.fromkeys(record))
        else:
            message = f"an object is needed, not {type(record).__name__}"
            bad.add(WrongLine(message, where=f"{path} line {number}", hint=OBJECTS), number)
    if not records and not bad.count:
        read_text(path)  # which says so where the file is empty
    return TableFile(path, list(columns), [[r.get(c, "") for c in columns] for r in records], lines, bad)


def _json_rows(path: Path, bad: BadLines) -> Iterator[tuple[int, Any]]:
    """Number and content of each row: of a line, or of an element of a list, which is read as a whole."""
    with open_text(path, "\n") as file:
        first = next((line for line in file if line.strip()), "")
    if first.lstrip().startswith("[") and not path.name.lower().endswith(LINE_ENDINGS):
        yield from enumerate(read_json(path), start=1)
        return
    with open_text(path, "\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                location = f"{path} line {number}"
                try:
                    record = parse_json(line, location)
                except InputError as error:
                    bad.add(InputError(error.what, where=location, hint=error.hint, code=error.code), number)
                else:
                    yield number, record


def _cell(value: Any) -> str:
    """A JSON value as a cell of CSV has it: lists stay JSON."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

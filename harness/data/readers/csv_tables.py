"""Reader of tables as text: `interactions.csv` and, optionally, `items.csv`.

CSV with commas, semicolons, tabs, bars or double colons, JSON lines, and JSON lists of objects; plain or gzipped. The
item file is next to the interactions, with any extension of a table. Columns are matched by canonical name, alias
(`harness.data.reading`) or `--columns`; others are ignored with a note.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from harness.core.json_files import open_text, parse_json, read_json, read_text
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.readers.interactions import Log, plain_ids, written_list
from harness.data.readers.item_texts import extra_prose, listed_categories, prose, texts_by_item
from harness.data.reading import (
    CATEGORIES,
    ITEM,
    PLAIN,
    RATING,
    TEXT_FIELDS,
    TIMESTAMP,
    TITLE,
    USER,
    BadLines,
    Matched,
    Reading,
    WrongLine,
    lacking,
    matched,
    matched_all,
    no_rows,
    normalized,
    twice,
)
from harness.errors import InputError

INTERACTIONS, ITEMS = "interactions", "items"
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

    def matched(self, needed: tuple[str, ...], optional: tuple[str, ...], reading: Reading) -> Matched:
        """Which columns are which; `InputError` where one of `needed` is missing."""
        return matched_all(self.columns, needed, optional, reading, f"{self.path} line 1")


def stem(path: Path) -> str:
    """The file's name without the endings of a table.

    >>> stem(Path("log.csv.gz")), stem(Path("my.shop.jsonl"))
    ('log', 'my.shop')
    """
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def read(folder: Path, name: str, order: Order = "time", reading: Reading = PLAIN) -> Dataset:
    """The tables of a folder; see `read_file`."""
    return read_file(named(folder, INTERACTIONS) or folder / f"{INTERACTIONS}.csv", name, order, reading)


def read_file(
    path: Path, name: str, order: Order = "time", reading: Reading = PLAIN, parts: Sequence[Path] = ()
) -> Dataset:
    """Users and items in order of first appearance, line by line; each user's rows by (timestamp, line). With the order
    `file` the rows stand as they do, and the timestamp may be missing. Item text is that of `items.csv` (or of another
    ending) in the same folder. `parts`: the files of the table where there are several, `path` being one of them."""
    file = _joined(parts, reading) if parts else read_table(path, reading)
    columns = file.matched((USER, ITEM, TIMESTAMP) if order == "time" else (USER, ITEM), (RATING,), reading)
    described = named(path.parent, ITEMS) or named(path.parent, "item")
    texts, text_notes, item_file = (None, (), None) if described is None else read_items(described, reading)
    places = columns.places
    file = _unrolled(file, places[ITEM], places[TIMESTAMP] if order == "time" else None)
    log = Log(
        path=path,
        users=file.column(places[USER]),
        items=file.column(places[ITEM]),
        timestamps=file.column(places[TIMESTAMP]) if order == "time" else [],
        lines=file.lines,
        order=order,
        fields=places,
        ratings=file.column(places[RATING]) if RATING in places else None,
        reading=reading,
        bad=file.bad,
        notes=(*columns.notes(path.name), *file.notes, *text_notes),
        item_file=item_file,
    )
    kind = "JSON lines" if ".json" in path.name or ".ndjson" in path.name else "CSV"
    return log.dataset(name, texts, f"{kind}, {path.name}")


def named(folder: Path, name: str) -> Path | None:
    """The table of that name in a folder, by the order of `ENDINGS`, in capitals or not; None where there is none."""
    paths = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True) if path.is_file()}
    return next((paths[file] for ending in ENDINGS if (file := f"{name}{ending}") in paths), None)


def read_items(path: Path, reading: Reading) -> tuple[dict[str, ItemText], tuple[str, ...], ItemFile]:
    """The text of each item of an item file (`texts_by_item`), what a reader says of it, and the order of its rows."""
    file = read_table(path, reading)
    location = f"{path} line 1"
    columns = matched(file.columns, (ITEM, *TEXT_FIELDS), reading.only(file.columns), location)
    places = columns.places
    if ITEM not in places or len(places) + len(columns.extra) < 2:
        missing = [name for name in (ITEM, TITLE) if name not in places]
        raise lacking(missing, file.columns, location, "begin the file with a header item,title")
    items = plain_ids(file.column(places[ITEM]))
    cells = zip(*(file.column(places.get(name)) for name in TEXT_FIELDS), strict=True)
    extra = [file.column(name) for name in columns.extra]
    bars = normalized(places.get(CATEGORIES, "")) in ("genres", "genre")

    def texts() -> Iterator[ItemText]:
        for row, (title, description, brand, categories) in enumerate(cells):
            described = (prose(description), *(extra_prose(column[row]) for column in extra))
            listed = listed_categories(categories, bars=bars)
            yield ItemText(prose(title), " ".join(filter(None, described)), prose(brand), listed)

    field = places[ITEM]
    result = texts_by_item(items, texts(), file.bad, lambda row: f"{path} line {file.lines[row]} field {field!r}")
    return result, (*columns.notes(path.name), *file.settled_notes()), ItemFile(path, tuple(items))


def _unrolled(file: TableFile, item: str, time: str | None) -> TableFile:
    """A table with a list of items a row as one with an item a row; a list of times goes with it. Other tables as they
    are. A row whose lists are none, or are of two lengths, is a wrong line."""
    if not file.rows or not all(cell.strip().startswith("[") for cell in file.column(item)):
        return file
    rows, lines = [], []
    places = [file.columns.index(name) for name in (item, time) if name is not None]
    for row, line in zip(file.rows, file.lines, strict=True):
        lists = [written_list(row[place]) for place in places]
        if not lists[0] or any(len(listed) != len(lists[0]) for listed in lists):
            message = f"a list of items is needed{', and one of as many times' if time else ''}"
            hint = "write [12, 7, 3], or one row an item"
            file.bad.add(WrongLine(message, where=f"{file.path} line {line}", hint=hint))
            continue
        for values in zip(*lists, strict=True):
            single = list(row)
            for place, value in zip(places, values, strict=True):
                single[place] = value
            rows.append(single)
            lines.append(line)
    return replace(file, rows=rows, lines=lines, notes=(*file.notes, f"lists of {item} are read as one row an item"))


def has_header(path: Path) -> bool:
    """Whether the first line of a text file names a column of users and one of items."""
    with open_text(path) as file:
        _, line = first_line(file)
    names = [name.strip() for name in line.strip().split(separator_of(line.strip()))]
    return len(matched(names, (USER, ITEM), PLAIN, str(path)).places) == 2


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


def _joined(paths: Sequence[Path], reading: Reading) -> TableFile:
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
        return _of_separator(path, bad, separator, skipped, headless=headless)
    except _BrokenQuotes as error:
        broken = error
    form: dict[str, Any] = {"doublequote": False, "escapechar": "\\"}
    note = "backslashes before quotes are read as escapes"
    if separator == "\t":
        form, note = {"quoting": csv.QUOTE_NONE}, "quotes are read as any other character"
    again = BadLines(path.name, bad.reading)
    try:
        table = _of_separator(path, again, separator, skipped, headless=headless, **form)
    except _BrokenQuotes:
        raise broken from None
    if not table.rows or again.count > bad.reading.tolerated(len(table.rows) + again.count):
        raise broken
    return replace(table, notes=(*table.notes, f"{path.name}: {note}"))


class _BrokenQuotes(InputError):
    code = "bad-file"


def first_line(file: TextIO) -> tuple[int, str]:
    """The first line that is not a comment or Excel's `sep=`, and how many are before it."""
    for skipped, line in enumerate(file):
        comment = line.startswith(("#", "%")) and len(line.split(separator_of(line.rstrip("\r\n")))) == 1
        if not comment and not re.fullmatch(r"sep=.\s*", line):
            return skipped, line
    return 0, ""


def _of_separator(path: Path, bad: BadLines, separator: str, skipped: int, *, headless: bool, **form: Any) -> TableFile:
    """The table behind the first `skipped` lines; `form` are options of the csv module. Raises `_BrokenQuotes`."""
    names = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", COLONS: "double colons", BLANKS: "blanks"}
    hint = f"part fields by {names[separator]}, and quote a field that holds one"
    return table_of(path, _csv_rows(path, separator, skipped, **form), bad, hint, headless=headless)


def _csv_rows(path: Path, separator: str, skipped: int, **form: Any) -> Iterator[tuple[int, list[str]]]:
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
    for number, record in _json_rows(path):
        if isinstance(record, dict):
            records.append({key: _cell(value) for key, value in record.items()})
            lines.append(number)
            columns.update(dict.fromkeys(record))
            continue
        message, hint, code = f"an object is needed, not {type(record).__name__}", OBJECTS, WrongLine.code
        if isinstance(record, InputError):
            message, hint, code = record.what, record.hint, record.code
        bad.add(InputError(message, where=f"{path} line {number}", hint=hint, code=code), number)
    if not records and not bad.count:
        read_text(path)  # which says so where the file is empty
    return TableFile(path, list(columns), [[r.get(c, "") for c in columns] for r in records], lines, bad)


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and content of each row: of a line, or of an element of a list, which is read as a whole; of a line that
    is no JSON the error."""
    with open_text(path, "\n") as file:
        first = next((line for line in file if line.strip()), "")
    if first.lstrip().startswith("[") and not path.name.lower().endswith(LINE_ENDINGS):
        yield from enumerate(read_json(path), start=1)
        return
    with open_text(path, "\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    record = parse_json(line, f"{path} line {number}")
                except InputError as error:
                    record = error
                yield number, record


def _cell(value: Any) -> str:
    """A JSON value as a cell of CSV has it: lists stay JSON."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""Reader of RecBole's atomic files: `NAME.inter` with a timestamp and, optionally, `NAME.item`.

Tab-separated without quotes; the header has each field as `name:type`. Token sequences are separated by spaces, or by
commas if there are any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.json_files import open_text, read_text
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.readers.interactions import WITHOUT_TIME, Log, plain_ids
from harness.data.readers.table_files import repeated_header
from harness.data.reading import (
    ATOMIC_ITEM,
    ATOMIC_TEXT,
    ATOMIC_TYPES,
    ATOMIC_USER,
    ATOMIC_YEAR,
    CATEGORIES,
    ITEM,
    RATING,
    TIMESTAMP,
    USER,
    BadLines,
    Matched,
    Reading,
    matched,
)
from harness.errors import InputError

INTERACTIONS = ".inter"
ITEMS = ".item"
USUAL = {USER: ATOMIC_USER, ITEM: ATOMIC_ITEM}


@dataclass(frozen=True)
class AtomicFile:
    """Fields with their types, and the rows in file order; `lines[n]` is where row `n` stands. `columns` says which
    field is which of our columns, `bad` has the lines that are no rows."""

    path: Path
    types: dict[str, str]
    rows: list[list[str]]
    lines: list[int]
    columns: Matched
    bad: BadLines
    notes: tuple[str, ...] = ()

    def column(self, field: str) -> list[str]:
        place = list(self.types).index(field)
        return [row[place] for row in self.rows]


def read(folder: Path, name: str, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """Users and items in order of first appearance, line by line; each user's rows by (timestamp, line). With the order
    `file` the rows stand as they do, and the timestamp may be missing."""
    reading = reading or Reading()
    path = folder / f"{name}{INTERACTIONS}"
    if not path.exists() and (packed := folder / f"{path.name}.gz").exists():
        path = packed
    timed = {TIMESTAMP: "float"} if order == "time" else {}
    file = read_atomic(path, {USER: "token", ITEM: "token", **timed}, reading, (RATING,))
    texts, lines, item_file = read_items(folder / f"{name}{ITEMS}", reading)
    places = file.columns.places
    log = Log(
        path,
        file.column(places[USER]),
        file.column(places[ITEM]),
        file.column(places[TIMESTAMP]) if timed else [],
        file.lines,
        order,
        ratings=file.column(places[RATING]) if RATING in places else None,
        reading=reading,
        bad=file.bad,
        notes=(*file.columns.notes(path.name), *file.notes, *lines),
        item_file=item_file,
    )
    return log.dataset(name, texts, f"RecBole atomic files, {path.name}")


def read_atomic(path: Path, needed: dict[str, str], reading: Reading, names: tuple[str, ...] = ()) -> AtomicFile:
    """One atomic file that must have our columns `needed`, each of its type; `names` may be there."""
    rows, lines, bad, repeats = [], [], BadLines(path.name, reading), 0
    with open_text(path, "\n") as file:  # parted by "\n" alone: a title may hold other line separators
        header = file.readline()
        if not header.strip():
            read_text(path)  # which says so where the file is empty
        types = _types(path, header.rstrip("\r\n"))
        columns = matched(tuple(types), (*needed, *names), _of_file(reading, types), f"{path} line 1")
        for column, kind in needed.items():
            _check_field(path, types, columns, column, kind)
        for number, line in enumerate(file, start=2):
            line = line.rstrip("\r\n")
            repeats += line == header.rstrip("\r\n")
            if not line.strip() or line == header.rstrip("\r\n"):
                continue
            row = line.split("\t")
            if len(row) > len(types) and not any(row[len(types) :]):
                row = row[: len(types)]
            if len(row) != len(types):
                message = f"{len(row)} fields where the header has {len(types)}"
                location = f"{path} line {number}"
                bad.add(
                    InputError(message, where=location, hint="part fields by one tab each", code="bad-line"), number
                )
                continue
            rows.append(row)
            lines.append(number)
    if not rows and not bad.count:
        raise InputError(
            "no rows after the header", where=str(path), hint="write the data to it again", code="empty-data"
        )
    return AtomicFile(path, types, rows, lines, columns, bad, repeated_header(path, repeats))


def _of_file(reading: Reading, types: Mapping[str, str]) -> Reading:
    """The reading with the columns that this one of several files has."""
    return replace(reading, columns=tuple(pair for pair in reading.columns if pair[1] in types))


def _check_field(path: Path, types: Mapping[str, str], columns: Matched, column: str, kind: str) -> None:
    name = columns.places.get(column)
    if name is None or types[name] != kind:
        reference = name or USUAL.get(column, column)
        has_value = ", ".join(f"{name}:{of}" for name, of in types.items())
        hint = f"add a field {reference}:{kind} (it has {has_value})" + (WITHOUT_TIME if column == TIMESTAMP else "")
        raise InputError(
            f"the header lacks {reference}:{kind}", where=f"{path} line 1", hint=hint, code="missing-column"
        )


def header(path: Path) -> dict[str, str]:
    """The fields of an atomic file with their types."""
    with open_text(path, "\n") as file:
        line = file.readline()
    if not line.strip():
        read_text(path)  # which says so where the file is empty
    return _types(path, line.rstrip("\r\n"))


def _types(path: Path, header: str) -> dict[str, str]:
    types: dict[str, str] = {}
    for part in header.split("\t"):
        name, _, kind = part.partition(":")
        if not name or kind not in ATOMIC_TYPES:
            hint = f"write name:type, parted by tabs, type one of {', '.join(ATOMIC_TYPES)}"
            raise InputError(
                f"header field {part!r} has no known type", where=f"{path} line 1", hint=hint, code="bad-line"
            )
        if name in types:
            raise InputError(
                f"field {name!r} stands twice", where=f"{path} line 1", hint="keep one of the two", code="duplicate"
            )
        types[name] = kind
    return types


def read_items(path: Path, reading: Reading) -> tuple[dict[str, ItemText] | None, tuple[str, ...], ItemFile | None]:
    """The text of each item, what a reader says of the file, and the order of its rows; nothing where it is missing.
    An item that stands twice with the same text counts once; with another text it is a wrong line."""
    if not path.exists():
        return None, (), None
    file = read_atomic(path, {ITEM: "token"}, reading)
    items = plain_ids(file.column(file.columns.places[ITEM]))
    entries = {text: name for text in ATOMIC_TEXT if (name := _named(text, file.types, reading)) is not None}
    cells = {text: file.column(name) for text, name in entries.items()}
    years = file.column(ATOMIC_YEAR) if ATOMIC_YEAR in file.types else [""] * len(file.rows)
    texts: dict[str, ItemText] = {}
    for row, item in enumerate(items):
        location = f"{path} line {file.lines[row]} field {file.columns.places[ITEM]!r}"
        if not item.strip():
            file.bad.add(InputError("empty item id", where=location, hint="give every row one", code="bad-line"))
        elif texts.setdefault(item, text := _text(cells, row, years[row].strip())) != text:
            file.bad.add(
                InputError(f"item {item!r} stands twice", where=location, hint="keep one row an item", code="duplicate")
            )
    used = (*entries.values(), file.columns.places[ITEM], ATOMIC_YEAR)
    columns = Matched(file.columns.places, tuple(name for name in file.types if name not in used))
    notes = (*columns.notes(path.name), *file.notes, *file.bad.settle(len(file.rows) + file.bad.count))
    return texts, notes, ItemFile(path, tuple(items))


def _named(text: str, types: Mapping[str, str], reading: Reading) -> str | None:
    """The field that holds one of our text fields."""
    message = reading.column(text)
    return next((name for name in ((message,) if message in types else ATOMIC_TEXT[text]) if name in types), None)


def _text(cells: Mapping[str, list[str]], row: int, year: str) -> ItemText:
    fields = {text: column[row].strip() for text, column in cells.items()}
    listed = fields.pop(CATEGORIES, "")
    if year and fields.get("title"):
        fields["title"] = f"{fields['title']} ({year})"
    return ItemText(**fields, categories=_sequence(listed))


def _sequence(text: str) -> tuple[str, ...]:
    parts = text.split(",") if "," in text else text.split(" ")
    return tuple(part.strip() for part in parts if part.strip())

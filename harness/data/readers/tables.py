"""Plain CSV: `interactions.csv` (user,item,timestamp) and, optionally, `items.csv` (item,title[,description]).

Comma separated, quoted by double quotes, with a header; further columns are let be.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from harness.data.columns import (
    BRAND,
    CATEGORIES,
    DESCRIPTION,
    INTERACTIONS_CSV,
    ITEM,
    ITEMS_CSV,
    TIMESTAMP,
    TITLE,
    USER,
)
from harness.data.dataset import Dataset, ItemText, Order
from harness.data.readers.files import open_text, read_text
from harness.data.readers.log import WITHOUT_TIME, Log
from harness.errors import InputError

LONGEST_FIELD = 2**31 - 1  # the csv module's own limit, 131,072, is shorter than some descriptions


@dataclass(frozen=True)
class CsvFile:
    """Rows in file order; `lines[n]` is the last line of row `n`."""

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """One column; empty strings where the file has no such column."""
        if name not in self.columns:
            return [""] * len(self.rows)
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def read(folder: Path, name: str, order: Order = "time") -> Dataset:
    """Users and items in order of first appearance, line by line; each user's rows by (timestamp, line). With the order
    `file` the rows stand as they do, and the timestamp may be missing."""
    path = folder / INTERACTIONS_CSV
    file = read_csv(path, (USER, ITEM, TIMESTAMP) if order == "time" else (USER, ITEM))
    log = Log(path, file.column(USER), file.column(ITEM), file.column(TIMESTAMP), file.lines, order)
    described = folder / ITEMS_CSV
    text = _texts(described) if described.exists() else None
    return log.dataset(name, text, f"CSV, {path.name}")


def read_csv(path: Path, needed: tuple[str, ...]) -> CsvFile:
    """One CSV file whose header must have the columns `needed`."""
    csv.field_size_limit(LONGEST_FIELD)
    rows, lines = [], []
    with open_text(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            columns = [column.strip() for column in next(reader, [])]
            if not any(columns):
                read_text(path)  # which says so where the file is empty
            _check_header(path, columns, needed)
            for row in reader:
                if not row:
                    continue
                if len(row) != len(columns):
                    what = f"{len(row)} fields where the header has {len(columns)}"
                    mend = "part fields by commas, and quote a field that holds one"
                    raise InputError(what, where=f"{path} line {reader.line_num}", mend=mend)
                rows.append(row)
                lines.append(reader.line_num)
        except csv.Error as error:
            where = f"{path} line {reader.line_num}"
            raise InputError(f"not CSV ({error})", where=where, mend="mend the quotes") from error
    if not rows:
        raise InputError("no rows after the header", where=str(path), mend="write the data to it again")
    return CsvFile(path, columns, rows, lines)


def _check_header(path: Path, columns: list[str], needed: tuple[str, ...]) -> None:
    where = f"{path} line 1"
    if missing := [column for column in needed if column not in columns]:
        mend = f"begin the file with a header {','.join(needed)} (it has {','.join(columns)})"
        mend += WITHOUT_TIME if missing == [TIMESTAMP] else ""
        raise InputError(f"the header lacks {', '.join(missing)}", where=where, mend=mend)
    for column in columns:
        if columns.count(column) > 1:
            raise InputError(f"column {column!r} stands twice", where=where, mend="keep one of the two")


def _texts(path: Path) -> dict[str, ItemText]:
    file = read_csv(path, (ITEM, TITLE))
    fields = zip(*(file.column(name) for name in (ITEM, TITLE, DESCRIPTION, BRAND, CATEGORIES)), strict=True)
    texts: dict[str, ItemText] = {}
    for row, (item, title, description, brand, categories) in enumerate(fields):
        where = f"{path} line {file.lines[row]} field {ITEM!r}"
        if not item.strip():
            raise InputError("empty item id", where=where, mend="give every row one")
        if item in texts:
            raise InputError(f"item {item!r} stands twice", where=where, mend="keep one row an item")
        texts[item] = ItemText(title.strip(), description.strip(), brand.strip(), listed_categories(categories))
    return texts


def listed_categories(cell: str) -> tuple[str, ...]:
    """Categories parted by commas, or, where a name holds a comma, as a JSON list of strings.

    >>> listed_categories("Office, Pens"), listed_categories('["Pens, Ink", "Office"]')
    (('Office', 'Pens'), ('Pens, Ink', 'Office'))
    """
    if cell.startswith("["):
        try:
            listed = json.loads(cell)
        except ValueError:
            listed = None
        if isinstance(listed, list) and all(isinstance(part, str) for part in listed):
            return tuple(part.strip() for part in listed if part.strip())
    return tuple(part.strip() for part in cell.split(",") if part.strip())

"""Reader of CSV and JSON lines: `interactions.csv` and, optionally, `items.csv`.

The item file is next to the interactions, with any extension of a table. Columns are matched by canonical name, alias
(`harness.data.reading`) or `--columns`; others are ignored with a note.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.core.json_files import open_text
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.raw.text_cleaning import sentences
from harness.data.readers.interactions import WITHOUT_TIME, Log, plain_ids
from harness.data.readers.table_files import ENDINGS, TableFile, first_line, read_table, read_tables, separator_of
from harness.data.reading import (
    CATEGORIES,
    FORM,
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
    matched,
    normalized,
)
from harness.errors import InputError

INTERACTIONS, ITEMS = "interactions", "items"


def read(folder: Path, name: str, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """The tables of a folder; see `read_file`."""
    return read_file(named(folder, INTERACTIONS) or folder / f"{INTERACTIONS}.csv", name, order, reading)


def read_file(
    path: Path, name: str, order: Order = "time", reading: Reading | None = None, parts: Sequence[Path] = ()
) -> Dataset:
    """Users and items in order of first appearance, line by line; each user's rows by (timestamp, line). With the order
    `file` the rows stand as they do, and the timestamp may be missing. Item text is that of `items.csv` (or of another
    ending) in the same folder. `parts`: the files of the table where there are several, `path` being one of them."""
    reading = reading or Reading()
    file = read_tables(parts, reading) if parts else read_table(path, reading)
    needed = (USER, ITEM, TIMESTAMP) if order == "time" else (USER, ITEM)
    columns = columns_of(file, (*needed, RATING), needed, reading)
    described = named(path.parent, ITEMS) or named(path.parent, "item")
    texts, payload, item_file = (None, (), None) if described is None else read_items(described, reading)
    file = _unrolled(file, columns.places[ITEM], columns.places.get(TIMESTAMP) if order == "time" else None)
    log = Log(
        path=path,
        users=file.column(columns.places[USER]),
        items=file.column(columns.places[ITEM]),
        timestamps=file.column(columns.places.get(TIMESTAMP)) if order == "time" else [],
        lines=file.lines,
        order=order,
        fields=columns.places,
        ratings=file.column(columns.places[RATING]) if RATING in columns.places else None,
        reading=reading,
        bad=file.bad,
        notes=(*columns.notes(path.name), *file.notes, *payload),
        item_file=item_file,
    )
    kind = "JSON lines" if ".json" in path.name or ".ndjson" in path.name else "CSV"
    return log.dataset(name, texts, f"{kind}, {path.name}")


def named(folder: Path, name: str) -> Path | None:
    """The table of that name in a folder, by the order of `ENDINGS`, in capitals or not; None where there is none."""
    paths = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True) if path.is_file()}
    return next((paths[file] for ending in ENDINGS if (file := f"{name}{ending}") in paths), None)


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
            file.bad.add(InputError(message, where=f"{file.path} line {line}", hint=hint, code="bad-line"))
            continue
        for values in zip(*lists, strict=True):
            single = list(row)
            for place, value in zip(places, values, strict=True):
                single[place] = value
            rows.append(single)
            lines.append(line)
    return replace(file, rows=rows, lines=lines, notes=(*file.notes, f"lists of {item} are read as one row an item"))


def written_list(text: str) -> list[str]:
    """The ids or numbers of a list as JSON or Python writes it; none where it is no such list.

    >>> written_list("[12, 7]"), written_list("['a', 'b']"), written_list("no list")
    (['12', '7'], ['a', 'b'], [])
    """
    try:
        listed = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    if not isinstance(listed, list) or not all(isinstance(item, int | float | str) for item in listed):
        return []
    items = [str(item).strip() for item in listed]
    return items if all(items) else []


def has_header(path: Path) -> bool:
    """Whether the first line of a text file names a column of users and one of items."""
    with open_text(path) as file:
        _, line = first_line(file)
    names = [name.strip() for name in line.strip().split(separator_of(line.strip()))]
    return {USER, ITEM} <= matched(names, (USER, ITEM), PLAIN, str(path)).places.keys()


def columns_of(file: TableFile, names: tuple[str, ...], needed: tuple[str, ...], reading: Reading) -> Matched:
    """Which columns are which; `InputError` where a needed one is missing."""
    location = f"{file.path} line 1"
    columns = matched(file.columns, names, reading, location)
    if missing := [column for column in needed if column not in columns.places]:
        hint = f"begin the file with a header {','.join(needed)} (it has {','.join(file.columns)})"
        hint += f", or name its columns with --columns: {FORM}"
        hint += WITHOUT_TIME if missing == [TIMESTAMP] else ""
        raise InputError(f"the header lacks {', '.join(missing)}", where=location, hint=hint, code="missing-column")
    return columns


def read_items(path: Path, reading: Reading) -> tuple[dict[str, ItemText], tuple[str, ...], ItemFile]:
    """The text of each item of an item file, what a reader says of it, and the order of its rows.

    An item that stands twice with the same text counts once; with another text it is a wrong line.
    """
    file = read_table(path, reading)
    of_items = Reading(columns=tuple(pair for pair in reading.columns if pair[1] in file.columns))
    literals = (ITEM, *TEXT_FIELDS)
    columns = matched(file.columns, literals, of_items, f"{path} line 1")
    if ITEM not in columns.places or len(columns.places) + len(columns.extra) < 2:
        missing = [name for name in (ITEM, TITLE) if name not in columns.places]
        hint = f"begin the file with a header item,title (it has {','.join(file.columns)})"
        raise InputError(
            f"the header lacks {', '.join(missing)}", where=f"{path} line 1", hint=hint, code="missing-column"
        )
    cells = zip(
        plain_ids(file.column(columns.places[ITEM])),
        *(file.column(columns.places.get(name)) for name in TEXT_FIELDS),
        strict=True,
    )
    extra = [file.column(name) for name in columns.extra]
    bars = normalized(columns.places.get(CATEGORIES, "")) in ("genres", "genre")
    texts: dict[str, ItemText] = {}
    order: list[str] = []
    for row, (item, title, description, brand, categories) in enumerate(cells):
        listed = listed_categories(categories, bars=bars)
        described = " ".join(filter(None, (prose(description), *(extra_prose(column[row]) for column in extra))))
        text = ItemText(prose(title), described, prose(brand), listed)
        _add(texts, item, text, file.bad, f"{path} line {file.lines[row]} field {columns.places[ITEM]!r}")
        order.append(item)
    notes = (*columns.notes(path.name), *file.notes, *file.bad.settle(len(file.rows) + file.bad.count))
    return texts, notes, ItemFile(path, tuple(order))


def _add(texts: dict[str, ItemText], item: str, text: ItemText, bad: BadLines, location: str) -> None:
    if not item.strip():
        bad.add(InputError("empty item id", where=location, hint="give every row one", code="bad-line"))
    elif texts.setdefault(item, text) != text:
        bad.add(
            InputError(f"item {item!r} stands twice", where=location, hint="keep one row an item", code="duplicate")
        )


def prose(cell: str) -> str:
    """A cell of text; a JSON list of texts, as JSON lines have it, becomes one."""
    if cell.startswith('["'):
        listed = _listed(cell)
        return " ".join(part.strip() for part in listed) if listed is not None else cell.strip()
    return cell.strip()


def extra_prose(cell: str) -> str:
    """A cell of `EXTRA_TEXT`: of a JSON object a sentence for each of its pairs.

    >>> extra_prose('["soft", "light"]'), extra_prose('{"Color": "red", "Size": 4}')
    ('soft light', 'Color: red. Size: 4.')
    """
    return " ".join(sentences(cell, "")).strip() if cell.startswith("{") else prose(cell)


def listed_categories(cell: str, *, bars: bool = False) -> tuple[str, ...]:
    """Categories parted by commas, or, where a name holds a comma, as a JSON list of strings; with `bars` by bars where
    there are any.

    >>> listed_categories("Office, Pens"), listed_categories('["Pens, Ink", "Office"]')
    (('Office', 'Pens'), ('Pens, Ink', 'Office'))
    >>> listed_categories("Drama|Sci-Fi", bars=True)
    ('Drama', 'Sci-Fi')
    """
    if cell.startswith("[") and (listed := _listed(cell)) is not None:
        return tuple(part.strip() for part in listed if part.strip())
    mark = "|" if bars and "|" in cell else ","
    return tuple(part.strip() for part in cell.split(mark) if part.strip())


def _listed(cell: str) -> list[str] | None:
    try:
        listed = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    if isinstance(listed, list) and listed and all(isinstance(part, list) for part in listed):
        listed = listed[0]  # paths of categories, as Amazon's releases have them: the first one
    return listed if isinstance(listed, list) and all(isinstance(part, str) for part in listed) else None

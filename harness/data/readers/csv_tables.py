"""Reader of CSV and JSON lines: `interactions.csv` and, optionally, `items.csv`.

The item file is next to the interactions, with any extension of a table. Columns are matched by canonical name, alias
(`harness.data.columns`) or `--columns`; others are ignored with a note.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.data.columns import (
    CATEGORIES,
    ITEM,
    RATING,
    TEXT_FIELDS,
    TIMESTAMP,
    TITLE,
    USER,
)
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.raw.text_cleaning import sentences
from harness.data.readers.bad_lines import BadLines
from harness.data.readers.interactions import WITHOUT_TIME, Log
from harness.data.readers.matching import Matched, matched, normalized
from harness.data.readers.table_files import ENDINGS, TableFile, read_table
from harness.data.reading import FORM, Reading
from harness.errors import InputError

INTERACTIONS, ITEMS = "interactions", "items"


def read(folder: Path, name: str, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """The tables of a folder; see `read_file`."""
    return read_file(named(folder, INTERACTIONS) or folder / f"{INTERACTIONS}.csv", name, order, reading)


def read_file(path: Path, name: str, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """Users and items in order of first appearance, line by line; each user's rows by (timestamp, line). With the order
    `file` the rows stand as they do, and the timestamp may be missing. Item text is that of `items.csv` (or of another
    ending) in the same folder."""
    reading = reading or Reading()
    file = read_table(path, reading)
    needed = (USER, ITEM, TIMESTAMP) if order == "time" else (USER, ITEM)
    columns = columns_of(file, (*needed, RATING), needed, reading)
    described = named(path.parent, ITEMS)
    texts, payload, item_file = (None, (), None) if described is None else read_items(described, reading)
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
        notes=(*columns.notes(path.name), *payload),
        item_file=item_file,
    )
    kind = "JSON lines" if ".json" in path.name or ".ndjson" in path.name else "CSV"
    return log.dataset(name, texts, f"{kind}, {path.name}")


def named(folder: Path, name: str) -> Path | None:
    """The table of that name in a folder, by the order of `ENDINGS`; None where there is none."""
    return next((path for ending in ENDINGS if (path := folder / f"{name}{ending}").is_file()), None)


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
    cells = zip(*(file.column(columns.places.get(name)) for name in literals), strict=True)
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
    notes = (*columns.notes(path.name), *file.bad.settle(len(file.rows) + file.bad.count))
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

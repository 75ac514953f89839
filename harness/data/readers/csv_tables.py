"""Reader of tables as text (`table_files`): `interactions.csv` and, optionally, `items.csv`.

The item file is next to the interactions, with any extension of a table. Columns are matched by canonical name, alias
(`harness.data.reading`) or `--columns`; others are ignored with a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.core.json_files import open_text
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.readers.interactions import Log, plain_ids, written_list
from harness.data.readers.item_texts import extra_prose, listed_categories, prose, texts_by_item
from harness.data.readers.table_files import ENDINGS, TableFile, first_line, read_table, separator_of
from harness.data.reading import (
    CATEGORIES,
    ITEM,
    PLAIN,
    RATING,
    TEXT_FIELDS,
    TIMESTAMP,
    TITLE,
    USER,
    Reading,
    WrongLine,
    lacking,
    matched,
    normalized,
)
from harness.errors import InputError

INTERACTIONS, ITEMS = "interactions", "items"


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
    file = replace(_unrolled(file, places[ITEM], places.get(TIMESTAMP)), path=path)
    log = Log.of_table(file, places, order, reading, item_file)
    log.fields, log.notes = places, (*columns.notes(path.name), *file.notes, *text_notes)
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
    columns = matched(file.columns, (), (ITEM, *TEXT_FIELDS), reading.only(file.columns), location)
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
    return len(matched(names, (), (USER, ITEM), PLAIN, str(path)).places) == 2


def _joined(paths: Sequence[Path], reading: Reading) -> TableFile:
    """Several files as one table: the rows of one after the other. Raises `InputError` where their columns differ."""
    first, *rest = [read_table(path, reading) for path in paths]
    for other in rest:
        if set(other.columns) != set(first.columns):
            message = f"its columns ({','.join(other.columns)}) are not those of {first.path.name}"
            hint = f"give all files the columns {','.join(first.columns)}, or give one file"
            raise InputError(message, where=str(other.path), hint=hint, code="missing-column")
        first.rows.extend(map(list, zip(*(other.column(name) for name in first.columns), strict=True)))
        first.lines.extend(other.lines)
        first.bad.join(other.bad)
    listed = ", ".join(path.name for path in paths)
    return replace(first, notes=(*first.notes, f"{listed} are joined; the protocol splits them again"))

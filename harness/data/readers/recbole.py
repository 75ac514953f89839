"""Reader of RecBole's atomic files: `NAME.inter` with a timestamp and, optionally, `NAME.item`; and of RecBole's split
files `NAME.train.inter`, `NAME.valid.inter` and `NAME.test.inter`.

Tab-separated without quotes; the header has each field as `name:type`. Token sequences are separated by spaces, or by
commas if there are any.

Split files are joined to one data set and split again by the protocol, so that all models share one split. Two forms
are read: plain rows, and rows with the history written out (`item_id_list:token_seq` and the item that follows).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.core.json_files import open_text, read_text
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.readers.interactions import Log, plain_ids
from harness.data.readers.item_texts import stripped, texts_by_item
from harness.data.readers.sequences import Case, joined
from harness.data.readers.table_files import TableFile, split_lines, table_of
from harness.data.reading import (
    BRAND,
    CATEGORIES,
    DESCRIPTION,
    ITEM,
    PLAIN,
    RATING,
    TIMESTAMP,
    TITLE,
    USER,
    BadLines,
    Matched,
    Reading,
    WrongLine,
    is_hidden,
    lacking,
    matched,
    no_rows,
    twice,
)

INTERACTIONS = ".inter"
ITEMS = ".item"
PARTS = (".train", ".valid", ".test")
LISTS = ("item_id_list", "item_list", "item_seq")
JOINED = "RecBole's train, valid and test files are joined; the protocol cuts them again"
RULE = "order within a user: the train, valid and test file one after the other, each by its lines"
# Names by RecBole's own defaults; a text field may go by several.
USER_FIELD, ITEM_FIELD, YEAR_FIELD = "user_id", "item_id", "release_year"
TYPES = ("token", "token_seq", "float", "float_seq")
TEXT = {
    TITLE: ("title", "movie_title", "item_name", "name"),
    DESCRIPTION: ("description",),
    BRAND: ("brand",),
    CATEGORIES: ("categories", "category", "genres", "genre", "class"),
}


def read(folder: Path, name: str, order: Order = "time", reading: Reading = PLAIN) -> Dataset:
    """Users and items in order of first appearance, line by line; each user's rows by (timestamp, line). With the order
    `file` the rows stand as they do, and the timestamp may be missing."""
    path = folder / f"{name}{INTERACTIONS}"
    if not path.exists() and (packed := folder / f"{path.name}.gz").exists():
        path = packed
    table, columns = read_atomic(path, (USER, ITEM, TIMESTAMP) if order == "time" else (USER, ITEM), reading, (RATING,))
    texts, text_notes, item_file = read_items(folder / f"{name}{ITEMS}", reading)
    log = Log.of_table(table, columns.places, order, reading, item_file)
    log.notes = (*columns.notes(path.name), *table.notes, *text_notes)
    return log.dataset(name, texts, f"RecBole atomic files, {path.name}")


def split_names(folder: Path) -> list[str]:
    """The possible `NAME`s in this folder, of which all three split files exist."""
    ending = f"{PARTS[0]}{INTERACTIONS}"
    names = (path.name.removesuffix(ending) for path in folder.glob(f"?*{ending}") if not is_hidden(path))
    return sorted(name for name in names if all(path.is_file() for path in _split_paths(folder, name)))


def read_split(folder: Path, name: str, order: Order = "time", reading: Reading = PLAIN) -> Dataset:
    """Users and items in order of first appearance, file by file. Each user's rows by (timestamp, line); where there
    are no timestamps, in the order of the files and of their lines."""
    paths = _split_paths(folder, name)
    types = _types(paths[0])
    listed = next((field for field in LISTS if types.get(field) == "token_seq"), None)
    timed = order == "time" and listed is None and TIMESTAMP in types
    required = (USER, ITEM, TIMESTAMP) if timed else (USER, ITEM)
    tables, columns = zip(*(read_atomic(path, required, reading, (RATING,)) for path in paths), strict=True)
    texts, text_notes, item_file = read_items(folder / f"{name}{ITEMS}", reading)
    bad = tables[0].bad
    for table in tables[1:]:
        bad.join(table.bad)

    def column(canonical: str) -> list[str]:
        places = (found.places.get(canonical) for found in columns)
        return [cell for table, place in zip(tables, places, strict=True) for cell in table.column(place)]

    users, items = column(USER), column(ITEM)
    lines = [line for table in tables for line in table.lines]
    if listed is not None:  # rows are histories, perhaps truncated, and the items that follow
        histories = (history.split() for table in tables for history in table.column(listed))
        locations = (f"{table.path} line {line}" for table in tables for line in table.lines)
        rows = joined(list(map(Case, users, histories, items, lines, locations)), bad)
        users, items, lines = rows.users, rows.items, rows.lines
    log = Log(
        path=paths[0].with_name(f"{name}.*{INTERACTIONS}"),
        users=users,
        items=items,
        timestamps=column(TIMESTAMP) if timed else [],
        lines=lines,
        order="time" if timed else "file",
        ratings=column(RATING) if listed is None and all(RATING in found.places for found in columns) else None,
        reading=reading,
        bad=bad,
        notes=(
            *columns[0].notes(paths[0].name),
            *(note for table in tables for note in table.notes),
            *text_notes,
            JOINED,
        ),
        item_file=item_file,
    )
    dataset = log.dataset(name, texts, f"RecBole's split files, {name}")
    return dataset if timed else replace(dataset, notes=(RULE, *dataset.notes[1:]))


def _split_paths(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}{part}{INTERACTIONS}" for part in PARTS]


def read_atomic(
    path: Path, required: tuple[str, ...], reading: Reading, optional: tuple[str, ...] = ()
) -> tuple[TableFile, Matched]:
    """One atomic file, and which of its fields are which. It must have our columns `required`, a timestamp as `float`
    and the others as `token`; `optional` may be there."""
    types = _types(path)
    columns = matched(tuple(types), (), (*required, *optional), reading.only(types), f"{path} line 1")
    for canonical in required:
        name, kind = columns.places.get(canonical), "float" if canonical == TIMESTAMP else "token"
        if name is None or types[name] != kind:
            usual = {USER: USER_FIELD, ITEM: ITEM_FIELD}.get(canonical, canonical)
            field = f"{name or usual}:{kind}"
            present = [f"{name}:{of}" for name, of in types.items()]
            raise lacking([field], present, f"{path} line 1", f"add a field {field}")
    bad = BadLines(path.name, reading)
    table = table_of(path, split_lines(path, "\t"), bad, "part fields by one tab each")
    if not table.rows and not bad.count:
        raise no_rows(path)
    return replace(table, columns=list(types)), columns


def _types(path: Path) -> dict[str, str]:
    """The fields of an atomic file with their types."""
    with open_text(path, "\n") as file:
        header = file.readline().rstrip("\r\n")
    if not header.strip():
        read_text(path)  # which says so where the file is empty
    types: dict[str, str] = {}
    for part in header.split("\t"):
        name, _, kind = part.partition(":")
        if not name or kind not in TYPES:
            message = f"header field {part!r} has no known type"
            hint = f"write name:type, parted by tabs, type one of {', '.join(TYPES)}"
            raise WrongLine(message, where=f"{path} line 1", hint=hint)
        if name in types:
            raise twice(name, f"{path} line 1")
        types[name] = kind
    return types


def read_items(path: Path, reading: Reading) -> tuple[dict[str, ItemText] | None, tuple[str, ...], ItemFile | None]:
    """The text of each item (`texts_by_item`), what a reader says of the file, and the order of its rows; nothing where
    it is missing."""
    if not path.exists():
        return None, (), None
    table, columns = read_atomic(path, (ITEM,), reading)
    field = columns.places[ITEM]
    items = plain_ids(table.column(field))
    entries = {
        text: name
        for text, names in TEXT.items()
        if (name := next((name for name in (reading.column(text), *names) if name in table.columns), None)) is not None
    }
    cells = [map(str.strip, table.column(name)) for name in (*map(entries.get, TEXT), YEAR_FIELD)]
    texts = map(_text, *cells)
    described = texts_by_item(items, texts, table.bad, lambda row: f"{path} line {table.lines[row]} field {field!r}")
    unused = tuple(name for name in table.columns if name not in (*entries.values(), field, YEAR_FIELD))
    notes = (*Matched(columns.places, unused).notes(path.name), *table.settled_notes())
    return described, notes, ItemFile(path, tuple(items))


def _text(title: str, description: str, brand: str, categories: str, year: str) -> ItemText:
    """The text of an item; the year of a film follows its title."""
    parts = categories.split("," if "," in categories else " ")
    return ItemText(f"{title} ({year})" if title and year else title, description, brand, stripped(parts))

"""Reader and writer of Parquet: `interactions.parquet` (user, item, timestamp), optionally `items.parquet` (item and
text fields) and `reviews.parquet` (user, item, review).

The only layout without loss: types, lists of categories, exact timestamps, the order of items, and reviews.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from harness.data.dataset import Dataset, ItemFile, ItemText, Order, Review
from harness.data.readers.interactions import Log
from harness.data.readers.item_texts import extra_prose, known_reviews, listed_categories, stripped, texts_by_item
from harness.data.reading import (
    BRAND,
    CATEGORIES,
    DESCRIPTION,
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
    no_rows,
    twice,
)
from harness.errors import InputError

INTERACTIONS = "interactions.parquet"
ITEMS = "items.parquet"
REVIEWS = "reviews.parquet"
FILES = (INTERACTIONS, ITEMS, REVIEWS)
REVIEW = "review"
ENDINGS = (".parquet", ".pq", ".parquet.gzip")
ROWS_A_BYTE, UNFOLDS = 32, 1000  # more than rows of ids compress to
SMALL = 1 << 24  # bytes that any file may unfold to
WRITE_AGAIN = "write it again as Parquet"
STRICT = Reading(bad_lines=0)  # no row may be wrong


def read_stored(folder: Path, name: str, order: Order) -> Dataset:
    """A data set that this program has written: times are seconds, and the order of items is the file's."""
    dataset = read_file(folder / INTERACTIONS, name, order, STRICT, in_seconds=True)
    return replace(dataset, item_file=None)


def read_file(
    path: Path,
    name: str,
    order: Order = "time",
    reading: Reading = PLAIN,
    parts: Sequence[Path] = (),
    *,
    in_seconds: bool = False,
) -> Dataset:
    """Users in order of first appearance, row by row; items in the order of `items.parquet` where there is one, else by
    first appearance; each user's rows by (timestamp, row), with the order `file` by row alone.

    Ids are text or whole numbers; a timestamp is a number, a date as text, or a Parquet timestamp or date. `parts`: the
    files of the table where there are several, `path` being one of them.
    """
    required = (USER, ITEM, TIMESTAMP) if order == "time" else (USER, ITEM)
    table = _joined(parts) if parts else read_parquet(path)
    columns = _matched(path, table, required, (RATING,), reading)
    joined = (f"{', '.join(part.name for part in parts)} are joined; the protocol splits them again",) if parts else ()
    places = columns.places
    table = _unrolled(path, table, [places[name] for name in (ITEM, TIMESTAMP) if name in required])
    described = path.parent / ITEMS
    items, texts, text_notes = _items(described, reading) if described.exists() else ([], None, ())
    log = Log(
        path=path,
        users=_ids(path, table, places[USER]),
        items=_ids(path, table, places[ITEM]),
        timestamps=_times(path, table, places[TIMESTAMP]) if order == "time" else [],
        lines=range(1, len(table) + 1),
        order=order,
        catalogue=items,
        unit="row",
        fields=places,
        ratings=_numbers(path, table, places[RATING]) if RATING in places else None,
        reading=reading,
        in_seconds=in_seconds,
        notes=(*columns.notes(path.name), *joined, *text_notes),
        item_file=ItemFile(described, tuple(items)) if items else None,
        exact=True,
    )
    dataset = log.dataset(name, texts, f"Parquet, {path.name}")
    reviews = path.parent / REVIEWS
    return replace(dataset, reviews=_reviews(reviews, dataset)) if reviews.exists() else dataset


def write(dataset: Dataset, folder: Path) -> None:
    """The three tables. `items.parquet` is written even without text: it carries the order of items."""

    def put(name: str, columns: Mapping[str, Any]) -> None:
        pq.write_table(pa.table(columns), folder / name, compression="zstd")

    users = [dataset.users[user] for user in dataset.sequences.rows().tolist()]
    rows = [dataset.items[item] for item in dataset.sequences.values.tolist()]
    interactions = {USER: pa.array(users, pa.string()), ITEM: pa.array(rows, pa.string())}
    if dataset.timestamps is not None:
        interactions[TIMESTAMP] = pa.array(np.asarray(dataset.timestamps, np.float64))
    put(INTERACTIONS, interactions)
    items = {ITEM: pa.array(dataset.items, pa.string())}
    if dataset.text is not None:
        for name in (TITLE, DESCRIPTION, BRAND):
            items[name] = pa.array([getattr(text, name) for text in dataset.text], pa.string())
        items[CATEGORIES] = pa.array([list(text.categories) for text in dataset.text], pa.list_(pa.string()))
    put(ITEMS, items)
    if dataset.reviews:
        columns = zip((USER, ITEM, REVIEW), zip(*dataset.reviews, strict=True), strict=True)
        put(REVIEWS, {name: pa.array(column, pa.string()) for name, column in columns})


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A table of a Parquet file, its content checked. Raises `InputError` for another format, and for a file whose
    claimed size is larger than a file of its length can hold."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:  # where it has any
            _bounded(path, file.metadata)
            table = file.read(columns, use_threads=False)
        table.validate(full=True)  # that text is UTF-8, and that offsets lie inside: nothing checks it while reading
        table = _plain_types(table)
    except (OSError, pa.ArrowException, ValueError, KeyError, MemoryError, OverflowError) as error:
        message = f"cannot be read as Parquet ({error})"
        raise InputError(message, where=str(path), hint=WRITE_AGAIN, code="unreadable-file") from error
    names = table.column_names
    if duplicates := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise twice(duplicates, str(path))
    return table


def _plain_types(table: pa.Table) -> pa.Table:
    """A table without categories, text as bytes, views and decimals, which other programs write: values instead."""
    for place, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or str(kind).endswith("_view"):
            kind = pa.large_string()
        elif pa.types.is_decimal(kind):
            kind = pa.int64() if kind.scale == 0 else pa.float64()
        if kind != field.type:
            with suppress(pa.ArrowException):  # bytes that are no text, numbers that are too long: the reader says so
                table = table.set_column(place, field.name, table.column(place).cast(kind))
    return table


def _bounded(path: Path, description: Any) -> None:
    size = path.stat().st_size
    unfolded = sum(description.row_group(place).total_byte_size for place in range(description.num_row_groups))
    if description.num_rows > ROWS_A_BYTE * size or not 0 <= unfolded <= SMALL + UNFOLDS * size:
        message = f"{size:,} bytes claim to hold {description.num_rows:,} rows of {unfolded:,} bytes"
        raise InputError(message, where=str(path), hint=WRITE_AGAIN, code="too-large")


def _matched(
    path: Path, table: pa.Table, required: tuple[str, ...], optional: tuple[str, ...], reading: Reading
) -> Matched:
    """Which columns are which. Raises `InputError` where one is missing or there are no rows."""
    names = table.column_names
    columns = matched(names, required, optional, reading.only(names), str(path), "it")
    if not len(table):
        raise no_rows(path)
    return columns


def _joined(paths: Sequence[Path]) -> pa.Table:
    """The rows of several files, one after the other."""
    tables = [read_parquet(path) for path in paths]
    try:
        names = [name for name in tables[0].column_names if all(name in table.column_names for table in tables)]
        return pa.concat_tables([table.select(names) for table in tables], promote_options="permissive")
    except (pa.ArrowException, KeyError) as error:
        hint = "give all files the same columns, or give one file"
        message = f"the columns of {', '.join(path.name for path in paths)} differ ({error})"
        raise InputError(message, where=str(paths[0].parent), hint=hint, code="missing-column") from error


def _unrolled(path: Path, table: pa.Table, fields: list[str]) -> pa.Table:
    """A table whose items are lists as one with an item a row; a list of times goes with it."""
    pc: Any = pyarrow.compute  # its functions are made at import
    if not is_list(table.column(fields[0]).type):
        return table
    columns = [table.column(field).combine_chunks() for field in fields]
    try:
        parents = pc.list_parent_indices(columns[0])
        if any(not pc.list_parent_indices(column).equals(parents) for column in columns):
            raise pa.ArrowInvalid("a row has more items than times, or fewer")
        flat = {field: pc.list_flatten(column) for field, column in zip(fields, columns, strict=True)}
    except (pa.ArrowException, NotImplementedError) as error:
        message, hint = f"lists that do not fit ({error})", "write one row an item"
        raise WrongLine(message, where=_field(path, fields[0]), hint=hint) from error
    rows = table.take(parents)
    return pa.table({name: flat.get(name, rows.column(name)) for name in table.column_names})


def _ids(path: Path, table: pa.Table, field: str) -> list[str]:
    """One id column as text; a missing id is an empty one, which the log refuses with its row."""
    kind, raw = table.column(field).type, table.column(field).to_pylist()
    if pa.types.is_floating(kind):
        raw = [None if value is None or value != value else value for value in raw]
    if pa.types.is_floating(kind) and all(value is None or value.is_integer() for value in raw):
        return ["" if value is None else str(int(value)) for value in raw]
    if not (_is_text(kind) or pa.types.is_integer(kind)):
        hint = "write ids as text or whole numbers"
        raise WrongLine(f"ids are needed, not {kind}", where=_field(path, field), hint=hint)
    return ["" if value is None else str(value).strip() for value in raw]


def _times(path: Path, table: pa.Table, field: str) -> list[str] | np.ndarray:
    """Times as `Log` takes them: text, or float64 with NaN where there is none."""
    column = table.column(field).combine_chunks()
    if _is_text(column.type):
        return [raw or "" for raw in column.to_pylist()]
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        micro = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return micro.to_numpy(zero_copy_only=False).astype(np.float64) / 1e6
    return _numbers(path, table, field, "numbers of seconds since 1970")


def _numbers(path: Path, table: pa.Table, field: str, needed: str = "numbers") -> np.ndarray:
    """Float64, NaN where there is none."""
    column = table.column(field).combine_chunks()
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        message, hint = f"{needed} are needed, not {column.type}", "write numbers, or Parquet timestamps"
        raise WrongLine(message, where=_field(path, field), hint=hint)
    return column.to_numpy(zero_copy_only=False).astype(np.float64)


def _field(path: Path, field: str) -> str:
    return f"{path} field {field!r}"


def _items(path: Path, reading: Reading) -> tuple[list[str], dict[str, ItemText] | None, tuple[str, ...]]:
    """Items in the file's order, their text (None if the file has no text column), and notes."""
    table = read_parquet(path)
    columns = _matched(path, table, (ITEM,), TEXT_FIELDS, reading)
    places = columns.places
    items = _ids(path, table, places[ITEM])

    def column(field: str, read: Callable[[Path, pa.Table, str], list[Any]], missing: Any) -> list[Any]:
        return read(path, table, places[field]) if field in places else [missing] * len(items)

    extra = [_prose(path, table, name) for name in columns.extra]
    descriptions = [
        " ".join(filter(None, (described, *map(extra_prose, values))))
        for described, *values in zip(column(DESCRIPTION, _prose, ""), *extra, strict=True)
    ]
    titles, brands = column(TITLE, _prose, ""), column(BRAND, _prose, "")
    texts = map(ItemText, titles, descriptions, brands, column(CATEGORIES, _categories, ()))
    bad = BadLines(path.name, STRICT)
    described = texts_by_item(items, texts, bad, lambda row: f"{path} row {row + 1} field {places[ITEM]!r}")
    has_text = len(places) > 1 or columns.extra
    return list(described), described if has_text else None, columns.notes(path.name)


def _reviews(path: Path, dataset: Dataset) -> tuple[Review, ...] | None:
    """The reviews of the data set's users and items."""
    table = read_parquet(path)
    required = (USER, ITEM, REVIEW)
    if missing := [column for column in required if column not in table.column_names]:
        raise lacking(missing, table.column_names, str(path), f"name the columns {','.join(required)}", subject="it")
    if not len(table):
        raise no_rows(path)
    rows = zip(_ids(path, table, USER), _ids(path, table, ITEM), _strings(path, table, REVIEW), strict=True)
    placed = (
        (f"{path} row {row}", Review(user, item, " ".join((text or "").split())))
        for row, (user, item, text) in enumerate(rows, start=1)
    )
    return known_reviews(placed, dataset.users, dataset.items)


def _strings(path: Path, table: pa.Table, field: str) -> list[str | None]:
    column = table.column(field)
    if not (_is_text(column.type) or pa.types.is_null(column.type)):
        raise WrongLine(f"text is needed, not {column.type}", where=_field(path, field), hint=WRITE_AGAIN)
    return column.to_pylist()


def _prose(path: Path, table: pa.Table, field: str) -> list[str]:
    """A column of text, or of lists of text, which are joined."""
    kind = table.column(field).type
    if is_list(kind) and _is_text(kind.value_type):
        return [" ".join(stripped(row or ())) for row in table.column(field).to_pylist()]
    return [(raw or "").strip() for raw in _strings(path, table, field)]


def _categories(path: Path, table: pa.Table, field: str) -> list[tuple[str, ...]]:
    """A list of strings, or one string as in CSV."""
    kind = table.column(field).type
    if not is_list(kind):
        return [listed_categories(cell or "") for cell in _strings(path, table, field)]
    if not _is_text(kind.value_type):
        raise WrongLine(f"lists of text are needed, not {kind}", where=_field(path, field), hint=WRITE_AGAIN)
    return [stripped(listed or ()) for listed in table.column(field).to_pylist()]


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is one of lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)

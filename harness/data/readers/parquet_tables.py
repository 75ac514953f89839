"""Reader of Parquet: `interactions.parquet` (user, item, timestamp), optionally `items.parquet` (item and text fields)
and `reviews.parquet` (user, item, review).

The only layout without loss: types, lists of categories, exact timestamps, the order of items, and reviews.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.readers.csv_tables import extra_prose, listed_categories
from harness.data.readers.interactions import WITHOUT_TIME, Log
from harness.data.reading import (
    BRAND,
    CATEGORIES,
    DESCRIPTION,
    FORM,
    INTERACTIONS_PARQUET,
    ITEM,
    ITEMS_PARQUET,
    RATING,
    REVIEW,
    REVIEWS_PARQUET,
    TEXT_FIELDS,
    TIMESTAMP,
    TITLE,
    USER,
    Matched,
    Reading,
    matched,
)
from harness.data.reviews import Review, fitting
from harness.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

FILES = (INTERACTIONS_PARQUET, ITEMS_PARQUET, REVIEWS_PARQUET)
ENDINGS = (".parquet", ".pq", ".parquet.gzip")
ROWS_A_BYTE, UNFOLDS = 32, 1000  # more than rows of ids compress to
SMALL = 1 << 24  # bytes that any file may unfold to
WRITE_AGAIN = "write it again as Parquet"


def read(folder: Path, name: str, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """The tables of a folder; see `read_file`."""
    return read_file(folder / INTERACTIONS_PARQUET, name, order, reading)


def read_stored(folder: Path, name: str, order: Order) -> Dataset:
    """A data set that this program has written: times are seconds, and the order of items is the file's."""
    dataset = read_file(folder / INTERACTIONS_PARQUET, name, order, Reading(bad_lines=0), in_seconds=True)
    return replace(dataset, item_file=None)


def read_file(
    path: Path,
    name: str,
    order: Order = "time",
    reading: Reading | None = None,
    parts: Sequence[Path] = (),
    *,
    in_seconds: bool = False,
) -> Dataset:
    """Users in order of first appearance, row by row; items in the order of `items.parquet` where there is one, else by
    first appearance; each user's rows by (timestamp, row), with the order `file` by row alone.

    Ids are text or whole numbers; a timestamp is a number, a date as text, or a Parquet timestamp or date. `parts`: the
    files of the table where there are several, `path` being one of them.
    """
    reading = reading or Reading()
    needed = (USER, ITEM, TIMESTAMP) if order == "time" else (USER, ITEM)
    table, columns = _table(path, needed, (RATING,), reading, parts)
    joined = (f"{', '.join(part.name for part in parts)} are joined; the protocol splits them again",) if parts else ()
    places = columns.places
    table = _unrolled(path, table, [places[name] for name in (ITEM, TIMESTAMP) if name in needed])
    catalogue, texts, lines = _items(path.parent / ITEMS_PARQUET, reading)
    log = Log(
        path=path,
        users=_ids(path, table, places[USER]),
        items=_ids(path, table, places[ITEM]),
        timestamps=_times(path, table, places[TIMESTAMP]) if order == "time" else [],
        lines=range(1, len(table) + 1),
        order=order,
        catalogue=catalogue,
        unit="row",
        fields=places,
        ratings=_numbers(path, table, places[RATING]) if RATING in places else None,
        reading=reading,
        in_seconds=in_seconds,
        notes=(*columns.notes(path.name), *joined, *lines),
        item_file=ItemFile(path.parent / ITEMS_PARQUET, tuple(catalogue)) if catalogue else None,
        exact=True,
    )
    dataset = log.dataset(name, texts, f"Parquet, {path.name}")
    return replace(dataset, reviews=_reviews(path.parent / REVIEWS_PARQUET, dataset))


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A table of a Parquet file, its content checked. Raises `InputError` for another format, and for a file whose
    claimed size is larger than a file of its length can hold."""
    import pyarrow as pa
    import pyarrow.parquet as pq

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
        raise InputError(
            f"column {duplicates!r} stands twice", where=str(path), hint="keep one of the two", code="duplicate"
        )
    return table


def _plain_types(table: pa.Table) -> pa.Table:
    """A table without categories, text as bytes, views and decimals, which other programs write: values instead."""
    import pyarrow as pa

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


def _table(
    path: Path,
    needed: tuple[str, ...],
    value: tuple[str, ...] = (),
    reading: Reading | None = None,
    parts: Sequence[Path] = (),
) -> tuple[pa.Table, Matched]:
    table, reading = _joined(parts) if parts else read_parquet(path), reading or Reading()
    names = table.column_names
    of_file = replace(reading, columns=tuple(pair for pair in reading.columns if pair[1] in names))
    columns = matched(names, (*needed, *value), of_file, str(path))
    missing = [column for column in needed if column not in columns.places]
    if missing:
        hint = f"name the columns {', '.join(needed)} (it has {', '.join(names)}), or say --columns: {FORM}"
        hint += WITHOUT_TIME if missing == [TIMESTAMP] else ""
        raise InputError(f"it lacks {', '.join(missing)}", where=str(path), hint=hint, code="missing-column")
    if not len(table):
        raise InputError("no rows", where=str(path), hint="write the data to it again", code="empty-data")
    return table, columns


def _joined(paths: Sequence[Path]) -> pa.Table:
    """The rows of several files, one after the other."""
    import pyarrow as pa

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
    import pyarrow as pa
    import pyarrow.compute

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
        location, hint = f"{path} field {fields[0]!r}", "write one row an item"
        raise InputError(f"lists that do not fit ({error})", where=location, hint=hint, code="bad-line") from error
    rows = table.take(parents)
    return pa.table({name: flat.get(name, rows.column(name)) for name in table.column_names})


def _ids(path: Path, table: pa.Table, field: str) -> list[str]:
    """One id column as text; a missing id is an empty one, which the log refuses with its row."""
    import pyarrow as pa

    kind, raw = table.column(field).type, table.column(field).to_pylist()
    if pa.types.is_floating(kind):
        raw = [None if value is None or value != value else value for value in raw]
    if pa.types.is_floating(kind) and all(value is None or value.is_integer() for value in raw):
        return ["" if value is None else str(int(value)) for value in raw]
    if not (_is_text(kind) or pa.types.is_integer(kind)):
        location, hint = f"{path} field {field!r}", "write ids as text or whole numbers"
        raise InputError(f"ids are needed, not {kind}", where=location, hint=hint, code="bad-line")
    return ["" if value is None else str(value).strip() for value in raw]


def _times(path: Path, table: pa.Table, field: str) -> list[str] | np.ndarray:
    """Times as `Log` takes them: text, or float64 with NaN where there is none."""
    import pyarrow as pa

    column = table.column(field).combine_chunks()
    if _is_text(column.type):
        return [raw or "" for raw in column.to_pylist()]
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        micro = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return micro.to_numpy(zero_copy_only=False).astype(np.float64) / 1e6
    return _numbers(path, table, field)


def _numbers(path: Path, table: pa.Table, field: str) -> np.ndarray:
    """Float64, NaN where there is none."""
    import pyarrow as pa

    column = table.column(field).combine_chunks()
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        location = f"{path} field {field!r}"
        message = (
            f"numbers of seconds since 1970 are needed, not {column.type}" if field == TIMESTAMP else "not numbers"
        )
        raise InputError(message, where=location, hint="write numbers, or Parquet timestamps", code="bad-line")
    return column.to_numpy(zero_copy_only=False).astype(np.float64)


def _items(path: Path, reading: Reading) -> tuple[list[str], dict[str, ItemText] | None, tuple[str, ...]]:
    """Items in the file's order, their text (None if the file has no text column), and notes."""
    if not path.exists():
        return [], None, ()
    table, columns = _table(path, (ITEM,), TEXT_FIELDS, reading)
    places = columns.places
    items = _ids(path, table, places[ITEM])
    for row, item in enumerate(items, start=1):
        if not item.strip():
            location = f"{path} row {row} field {places[ITEM]!r}"
            raise InputError("empty item id", where=location, hint="give every row one", code="bad-line")
    if not any(field in places for field in TEXT_FIELDS) and not columns.extra:
        return list(dict.fromkeys(items)), None, columns.notes(path.name)
    texts: list[dict[str, str]] = [{} for _ in items]
    fields = [(field, places[field]) for field in (TITLE, DESCRIPTION, BRAND) if field in places]
    for field, column in (*fields, *((DESCRIPTION, name) for name in columns.extra)):
        for text, raw in zip(texts, _prose(path, table, column), strict=True):
            cell = extra_prose(raw) if column in columns.extra else raw
            text[field] = " ".join(filter(None, (text.get(field, ""), cell)))
    categories = _categories(path, table, places[CATEGORIES]) if CATEGORIES in places else [()] * len(items)
    described: dict[str, ItemText] = {}
    for row, (item, text, listed) in enumerate(zip(items, texts, categories, strict=True), start=1):
        item_text = ItemText(**text, categories=listed)
        if described.setdefault(item, item_text) != item_text:
            location = f"{path} row {row} field {places[ITEM]!r}"
            raise InputError(
                f"item {item!r} stands twice, with two texts",
                where=location,
                hint="keep one row an item",
                code="duplicate",
            )
    return list(described), described, columns.notes(path.name)


def _reviews(path: Path, dataset: Dataset) -> tuple[Review, ...] | None:
    """The reviews of the data set's users and items; None if there is no file."""
    if not path.exists():
        return None
    table = read_parquet(path)
    if missing := [column for column in (USER, ITEM, REVIEW) if column not in table.column_names]:
        hint = f"name the columns {USER}, {ITEM}, {REVIEW} (it has {', '.join(table.column_names)})"
        raise InputError(f"it lacks {', '.join(missing)}", where=str(path), hint=hint, code="missing-column")
    if not len(table):
        raise InputError("no rows", where=str(path), hint="write the data to it again", code="empty-data")
    rows = zip(_ids(path, table, USER), _ids(path, table, ITEM), _strings(path, table, REVIEW), strict=True)
    reviews = (Review(user, item, " ".join((text or "").split())) for user, item, text in rows)
    placed = ((f"{path} row {row}", review) for row, review in enumerate(reviews, start=1))
    return fitting(placed, dataset.users, dataset.items)


def _strings(path: Path, table: pa.Table, field: str) -> list[str | None]:
    import pyarrow as pa

    column = table.column(field)
    if not (_is_text(column.type) or pa.types.is_null(column.type)):
        raise InputError(
            f"text is needed, not {column.type}", where=f"{path} field {field!r}", hint=WRITE_AGAIN, code="bad-line"
        )
    return column.to_pylist()


def _prose(path: Path, table: pa.Table, field: str) -> list[str]:
    """A column of text, or of lists of text, which are joined."""

    kind = table.column(field).type
    if is_list(kind) and _is_text(kind.value_type):
        rows = table.column(field).to_pylist()
        return [" ".join(part.strip() for part in row or () if part and part.strip()) for row in rows]
    return [(raw or "").strip() for raw in _strings(path, table, field)]


def is_list(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _categories(path: Path, table: pa.Table, field: str) -> list[tuple[str, ...]]:
    """A list of strings, or one string as in CSV."""

    column = table.column(field)
    if is_list(column.type):
        if _is_text(column.type.value_type):
            rows = column.to_pylist()
            return [tuple(part.strip() for part in listed or () if part and part.strip()) for listed in rows]
        location = f"{path} field {field!r}"
        raise InputError(
            f"lists of text are needed, not {column.type}", where=location, hint=WRITE_AGAIN, code="bad-line"
        )
    return [listed_categories(cell or "") for cell in _strings(path, table, field)]

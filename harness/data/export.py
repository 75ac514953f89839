"""Exports a data set to another layout: lists what the layout cannot hold, and reads the result back.

It is written to a temporary folder and moved into place. `harness.data.readers` reads the same layouts.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core.files import sync_folder, sync_tree
from harness.data.dataset import Dataset, Order
from harness.data.item_index_file import copied
from harness.data.readers import lcrec, recbole_atomic
from harness.data.readers.folder import read_folder
from harness.data.reading import (
    ATOMIC_ITEM,
    ATOMIC_USER,
    BRAND,
    CATEGORIES,
    DESCRIPTION,
    INTERACTIONS_CSV,
    INTERACTIONS_PARQUET,
    ITEM,
    ITEMS_CSV,
    ITEMS_PARQUET,
    REVIEW,
    REVIEWS_PARQUET,
    TEXT_FIELDS,
    TIMESTAMP,
    TITLE,
    USER,
)
from harness.data.reviews import write_reviews
from harness.errors import InputError, unknown_name

WITH_REVIEWS = ("lcrec", "parquet")
POSITION = "position"  # stands in for a timestamp where RecBole needs a number to sort by and none is known


def _lcrec(dataset: Dataset, folder: Path) -> Iterator[str]:
    """Categories as one string parted by commas, as the layout's scripts have them, or as lists where a name holds a
    comma."""
    rows = zip(dataset.users, dataset.sequences, strict=True)
    listed = {user: [dataset.items[item] for item in row] for user, row in rows}
    _put(folder / f"{dataset.name}{lcrec.INTERACTIONS}", json.dumps(listed, ensure_ascii=False))
    yield from _unused_items(dataset)
    if dataset.timestamps is not None:
        yield "timestamps: the LC-Rec layout states an order only (so global-time cannot be run on it)"
    if dataset.text is not None:
        plain = not any("," in name for text in dataset.text for name in text.categories)
        texts = {
            item: {
                TITLE: text.title,
                DESCRIPTION: text.description,
                BRAND: text.brand,
                CATEGORIES: ",".join(text.categories) if plain else list(text.categories),
            }
            for item, text in zip(dataset.items, dataset.text, strict=True)
        }
        _put(folder / f"{dataset.name}{lcrec.ITEMS}", json.dumps(texts, ensure_ascii=False, indent=1))
    if dataset.reviews:
        _put(folder / f"{dataset.name}{lcrec.REVIEWS}", write_reviews(dataset.reviews))
    if dataset.index_file is not None:
        copied(dataset.index_file, folder, dataset.name)


def _atomic(dataset: Dataset, folder: Path) -> Iterator[str]:
    """Categories parted by commas (`seq_separator: ","` for RecBole); without timestamps a `position` in each user's
    order, which RecBole may sort by (`TIME_FIELD: position`) and which is no time."""
    for kind, ids in (("user", dataset.users), ("item", dataset.items)):
        if (bad := next((raw for raw in ids if _broken(raw)), None)) is not None:
            message = f"{kind} id {bad!r} holds a tab or a line break, which an atomic file cannot hold"
            raise InputError(message, where="--layout recbole", hint="choose --layout parquet", code="bad-setting")
    yield from _unused_items(dataset)
    yield from _silent_users(dataset)
    times, field = _times(dataset), TIMESTAMP
    if times is None:
        field = POSITION
        times = [str(place) for row in dataset.sequences for place in range(len(row))]
        yield "timestamps: the data set has none; read it back with --order file (RecBole: TIME_FIELD: position)"
    header = f"{ATOMIC_USER}:token\t{ATOMIC_ITEM}:token\t{field}:float"
    rows = zip(*_flat(dataset), times, strict=True)
    _put(folder / f"{dataset.name}{recbole_atomic.INTERACTIONS}", "\n".join([header, *map("\t".join, rows), ""]))
    if dataset.text is not None:
        fields = [
            [text.title, text.description, text.brand, "".join(f"{name}," for name in text.categories)]
            for text in dataset.text
        ]
        pieces = sum("," in name for text in dataset.text for name in text.categories)
        invalid = sum(_broken(cell) for row in fields for cell in row)
        if pieces:
            yield f"{pieces} commas within categories: an atomic file parts categories by them"
        if invalid:
            yield f"tabs and line breaks in {invalid} fields of text, which become blanks"
        header = "\t".join([f"{ATOMIC_ITEM}:token", *(f"{name}:token_seq" for name in TEXT_FIELDS)])
        body = (
            "\t".join([item, *(" ".join(cell.split()) if _broken(cell) else cell for cell in row)])
            for item, row in zip(dataset.items, fields, strict=True)
        )
        _put(folder / f"{dataset.name}{recbole_atomic.ITEMS}", "\n".join([header, *body, ""]))


def _csv(dataset: Dataset, folder: Path) -> Iterator[str]:
    """Categories parted by commas, or as a JSON list where a name holds a comma."""
    yield from _unused_items(dataset)
    yield from _silent_users(dataset)
    columns, times = _flat(dataset), _times(dataset)
    if times is None:
        yield "timestamps: the data set has none; read it back with --order file"
    else:
        columns = (*columns, times)
    write_rows(folder / INTERACTIONS_CSV, (USER, ITEM, TIMESTAMP)[: len(columns)], zip(*columns, strict=True))
    if dataset.text is not None:
        write_items(dataset, folder)


def write_items(dataset: Dataset, folder: Path) -> None:
    """`items.csv`: every item in the data set's order, with its text where there is some."""
    if dataset.text is None:
        write_rows(folder / ITEMS_CSV, (ITEM,), zip(dataset.items))
        return
    rows = (
        (item, text.title, text.description, text.brand, _cell(text.categories))
        for item, text in zip(dataset.items, dataset.text, strict=True)
    )
    write_rows(folder / ITEMS_CSV, (ITEM, *TEXT_FIELDS), rows)


def _parquet(dataset: Dataset, folder: Path) -> Iterator[str]:
    """`items.parquet` is written even without text: it carries the order of items."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    yield from _unused_items(dataset)
    yield from _silent_users(dataset)
    users, names = _flat(dataset)
    columns = {USER: pa.array(users, pa.string()), ITEM: pa.array(names, pa.string())}
    if dataset.timestamps is None:
        yield "timestamps: the data set has none; read it back with --order file"
    else:
        columns[TIMESTAMP] = pa.array(np.asarray(dataset.timestamps, np.float64))
    pq.write_table(pa.table(columns), folder / INTERACTIONS_PARQUET, compression="zstd")
    items = {ITEM: pa.array(dataset.items, pa.string())}
    if dataset.text is not None:
        for name in (TITLE, DESCRIPTION, BRAND):
            items[name] = pa.array([getattr(text, name) for text in dataset.text], pa.string())
        items[CATEGORIES] = pa.array([list(text.categories) for text in dataset.text], pa.list_(pa.string()))
    pq.write_table(pa.table(items), folder / ITEMS_PARQUET, compression="zstd")
    if dataset.reviews:
        message = zip((USER, ITEM, REVIEW), zip(*dataset.reviews, strict=True), strict=True)
        reviews = {name: pa.array(column, pa.string()) for name, column in message}
        pq.write_table(pa.table(reviews), folder / REVIEWS_PARQUET, compression="zstd")


LAYOUTS: dict[str, Callable[[Dataset, Path], Iterator[str]]] = {
    "lcrec": _lcrec,
    "recbole": _atomic,
    "csv": _csv,
    "parquet": _parquet,
}


def _flat(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Raw user and raw item of every interaction, user by user in their order."""
    users = [dataset.users[user] for user in dataset.sequences.rows().tolist()]
    return users, [dataset.items[item] for item in dataset.sequences.values.tolist()]


def _times(dataset: Dataset) -> list[str] | None:
    """Every timestamp as text that gives the same number back."""
    if dataset.timestamps is None:
        return None
    return [str(int(time)) if time.is_integer() else repr(time) for time in dataset.timestamps.tolist()]


def _unused_items(dataset: Dataset) -> Iterator[str]:
    if unused := len(dataset.items) - len(np.unique(dataset.sequences.values)):
        yield f"{unused} items that stand in no interaction"


def _silent_users(dataset: Dataset) -> Iterator[str]:
    if silent := int((dataset.sequences.lengths == 0).sum()):
        yield f"{silent} users without an interaction"


def _broken(text: str) -> bool:
    return any(mark in text for mark in "\t\n\r")


def _cell(categories: tuple[str, ...]) -> str:
    is_parted = any("," in name for name in categories) or (bool(categories) and categories[0].startswith("["))
    return json.dumps(list(categories), ensure_ascii=False) if is_parted else ",".join(categories)


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")


def write_rows(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A table as CSV, UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


@dataclass(frozen=True)
class Exported:
    """Result of an export. `exact`: reading it back gives the same fingerprint. `lost`: what the layout cannot hold;
    `order`: value of `--order` for reading it back."""

    folder: Path
    layout: str
    exact: bool
    dropped: tuple[str, ...]
    order: Order


def export(dataset: Dataset, layout: str, folder: Path) -> Exported:
    """Writes `dataset` to `folder`, which must be new or empty. `layout` is one of `LAYOUTS`.

    Raises `InputError` for an unknown layout, a folder that is not empty, ids that the layout cannot hold, and disk
    errors; the folder is unchanged then.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS, where="--layout")
    with new_folder(folder) as path:
        names = tuple(LAYOUTS[layout](dataset, path))
        if dataset.reviews and layout not in WITH_REVIEWS:
            names = (*names, f"reviews: only {' and '.join(WITH_REVIEWS)} have a place for them")
        if dataset.index_file is not None and layout != "lcrec":
            names = (*names, "the ready-made item index: only lcrec has a place for it")
        order: Order = "time" if layout == "lcrec" else dataset.order
        try:
            current_dataset = read_folder(path, order)
        except InputError as error:  # such as an id that tables count as empty
            message = f"{layout} files cannot hold these data: {error.what}"
            raise InputError(message, where="--layout", hint="choose --layout parquet") from error
    return Exported(folder, layout, current_dataset.fingerprint == dataset.fingerprint, names, order)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that replaces `folder` after the block. Raises `InputError` if `folder` is not empty, and for
    disk errors; nothing is left then."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            "there is something already", where=str(folder), hint="choose a new or empty folder", code="already-exists"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield path
            path.chmod(0o755)
            sync_tree(path)
            path.replace(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        hint = "free some space, or choose another folder"
        raise InputError(
            f"cannot write: {error.strerror or error}", where=str(folder), hint=hint, code="cannot-write"
        ) from error

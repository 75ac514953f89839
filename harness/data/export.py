"""Exports a data set to another layout: lists what the layout cannot hold, and reads the result back.

It is written to a temporary folder and moved into place. `harness.data.readers` reads the same layouts.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from harness.core.files import translate_os_errors
from harness.data.dataset import Dataset, Order
from harness.data.loading import read_folder
from harness.data.local_store import staged_folder
from harness.data.readers import lcrec, parquet_tables, recbole
from harness.data.reading import CATEGORIES, ITEM, TEXT_FIELDS, TIMESTAMP, USER
from harness.errors import InputError, unknown_name

INTERACTIONS_CSV, ITEMS_CSV = "interactions.csv", "items.csv"
WITH_REVIEWS = ("lcrec", "parquet")
UNTIMED = "timestamps: the data set has none; read it back with --order file"
POSITION = "position"  # stands in for a timestamp where RecBole needs a number to sort by and none is known


def _lcrec(dataset: Dataset, folder: Path) -> Iterator[str]:
    """Categories as one string parted by commas, as the layout's scripts have them, or as lists where a name holds a
    comma."""
    rows = zip(dataset.users, dataset.sequences, strict=True)
    listed = {user: [dataset.items[item] for item in row] for user, row in rows}
    _put(folder / f"{dataset.name}{lcrec.INTERACTIONS}", json.dumps(listed, ensure_ascii=False))
    yield from _unused(dataset, users=False)
    if dataset.timestamps is not None:
        yield "timestamps: the LC-Rec layout states an order only (so global-time cannot be run on it)"
    if dataset.text is not None:
        plain = not any("," in name for text in dataset.text for name in text.categories)
        texts = {
            item: {**asdict(text), CATEGORIES: ",".join(text.categories) if plain else list(text.categories)}
            for item, text in zip(dataset.items, dataset.text, strict=True)
        }
        _put(folder / f"{dataset.name}{lcrec.ITEMS}", json.dumps(texts, ensure_ascii=False, indent=1))
    if dataset.reviews:
        _put(folder / f"{dataset.name}{lcrec.REVIEWS}", lcrec.write_reviews(dataset.reviews))
    if dataset.index_file is not None:
        lcrec.copy_index(dataset.index_file, folder, dataset.name)


def _atomic(dataset: Dataset, folder: Path) -> Iterator[str]:
    """Categories parted by commas (`seq_separator: ","` for RecBole); without timestamps a `position` in each user's
    order, which RecBole may sort by (`TIME_FIELD: position`) and which is no time."""
    for kind, ids in (("user", dataset.users), ("item", dataset.items)):
        if (bad := next((raw for raw in ids if _broken(raw)), None)) is not None:
            message = f"{kind} id {bad!r} holds a tab or a line break, which an atomic file cannot hold"
            raise InputError(message, where="--layout recbole", hint="choose --layout parquet", code="bad-setting")
    yield from _unused(dataset)
    times, field = _times(dataset), TIMESTAMP
    if times is None:
        field = POSITION
        times = [str(place) for row in dataset.sequences for place in range(len(row))]
        yield f"{UNTIMED} (RecBole: TIME_FIELD: position)"
    header = f"{recbole.USER_FIELD}:token\t{recbole.ITEM_FIELD}:token\t{field}:float"
    rows = zip(*_flat(dataset), times, strict=True)
    _put(folder / f"{dataset.name}{recbole.INTERACTIONS}", "\n".join([header, *map("\t".join, rows), ""]))
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
        header = "\t".join([f"{recbole.ITEM_FIELD}:token", *(f"{name}:token_seq" for name in TEXT_FIELDS)])
        body = (
            "\t".join([item, *(" ".join(cell.split()) if _broken(cell) else cell for cell in row)])
            for item, row in zip(dataset.items, fields, strict=True)
        )
        _put(folder / f"{dataset.name}{recbole.ITEMS}", "\n".join([header, *body, ""]))


def _csv(dataset: Dataset, folder: Path) -> Iterator[str]:
    """Categories parted by commas, or as a JSON list where a name holds a comma."""
    yield from _unused(dataset)
    columns, times = _flat(dataset), _times(dataset)
    if times is None:
        yield UNTIMED
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
    """See `parquet_tables.write`."""
    yield from _unused(dataset)
    if dataset.timestamps is None:
        yield UNTIMED
    parquet_tables.write(dataset, folder)


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


def _unused(dataset: Dataset, *, users: bool = True) -> Iterator[str]:
    """Items, and with `users` users too, that a layout of interactions cannot hold."""
    if unused := len(dataset.items) - len(np.unique(dataset.sequences.values)):
        yield f"{unused} items that stand in no interaction"
    if users and (silent := int((dataset.sequences.lengths == 0).sum())):
        yield f"{silent} users without an interaction"


def _broken(text: str) -> bool:
    return any(mark in text for mark in "\t\n\r")


def _cell(categories: tuple[str, ...]) -> str:
    is_parted = any("," in name for name in categories) or (categories and categories[0].startswith("["))
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
    """Result of an export. `exact`: reading it back gives the same fingerprint. `dropped`: what the layout cannot hold;
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
        hint = "choose a new or empty folder"
        raise InputError("there is something already", where=str(folder), hint=hint, code="already-exists")
    with translate_os_errors(folder, "free some space, or choose another folder"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with staged_folder(folder, f".{folder.name}-") as path:
            yield path

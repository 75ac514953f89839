"""The layout of LC-Rec, LETTER and EAGER-LLM: `NAME.inter.json`, optionally `NAME.item.json`, `NAME.review.json` and
`NAME.index.json` (ready-made item indices, which are copied with a data set and not interpreted here).

Reviews are read and written as the layout's published script has them; a key is Python's representation of a pair:

    {"('<user>', '<item>')": {"review": "…", "summary": "…"}}
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.json_files import read_json_object
from harness.data.dataset import Dataset, ItemFile, ItemText, Order, Review
from harness.data.download import sha256_of
from harness.data.ragged import RaggedArray
from harness.data.readers.interactions import numbered, repeat_notes
from harness.data.readers.item_texts import catalogue_texts, first_path, known_reviews, stripped
from harness.data.reading import BRAND, CATEGORIES, DESCRIPTION, PLAIN, TEXT_FIELDS, TITLE, Reading, WrongLine
from harness.errors import InputError

INTERACTIONS = ".inter.json"
ITEMS = ".item.json"
REVIEWS = ".review.json"
INDEX = ".index.json"
INDEX_PROVENANCE = ".provenance.json"  # of the file beside an index: which interactions it was made from
LONGEST_KEY = 1 << 14  # characters of a pair of ids


def read(folder: Path, name: str, order: Order = "file", reading: Reading = PLAIN) -> Dataset:
    """{user: [item, …] in time order}: lists are in time order by definition, so there are no timestamps, and `order`
    has no effect.

    The catalogue holds the items of the interactions, in order of first appearance, user by user.
    """
    path = folder / f"{name}{INTERACTIONS}"
    for other in (f"{name}.json", f"{path.name}.gz"):
        if not path.exists() and (folder / other).exists():
            path = folder / other
    reading.check_no_columns(path)
    listed = read_json_object(path)
    rows = [_row(path, user, row) for user, row in listed.items()]
    items, flat = numbered([item for row in rows for item in row])
    if not items:
        hint = "write the data to it again"
        raise InputError("no user has an interaction", where=str(path), hint=hint, code="empty-data")
    described, reviewed = folder / f"{name}{ITEMS}", folder / f"{name}{REVIEWS}"
    text = read_texts(described) if described.exists() else None
    texts, notes, lost, warnings = catalogue_texts(items, text)
    dataset = Dataset(
        name=name,
        users=tuple(listed),
        items=items,
        sequences=RaggedArray.of_lengths(flat, np.array([len(row) for row in rows], np.int64)),
        text=texts,
        source=f"LC-Rec layout, {path.name}",
        index_file=index_beside(folder, name),
        lost=lost,
        warnings=warnings,
        item_file=None if text is None else ItemFile(described, tuple(text)),
        reviews=_read_reviews(reviewed, listed, items) if reviewed.exists() else None,
    )
    notes = ("order within a user: as the file lists it", *repeat_notes(dataset), *notes, *warnings)
    return replace(dataset, notes=notes)


def _row(path: Path, user: str, row: Any) -> list[str]:
    location = f"{path} user {user!r}"
    if not user.strip():
        raise WrongLine("empty user id", where=location, hint="give every user one")
    if not isinstance(row, list):
        raise WrongLine("a list of items is needed", where=location, hint='write {"user": ["item", …]}')
    row = [int(item) if isinstance(item, float) and item.is_integer() else item for item in row]
    for place, item in enumerate(row):
        if isinstance(item, bool) or not isinstance(item, str | int) or not str(item).strip():
            hint = "write item ids as strings or whole numbers"
            raise WrongLine(f"item {item!r} at place {place + 1} is no id", where=location, hint=hint)
    return [str(item) for item in row]


def read_texts(path: Path) -> dict[str, ItemText]:
    """The text of each item of an item file, in its order."""
    return {item: _text(path, item, fields) for item, fields in read_json_object(path).items()}


def _text(path: Path, item: str, fields: Any) -> ItemText:
    if not isinstance(fields, dict):
        hint = 'write {"item": {"title": …, "description": …, "brand": …, "categories": …}}'
        raise WrongLine("an object of fields is needed", where=f"{path} item {item!r}", hint=hint)
    categories = first_path(fields.get(CATEGORIES))
    fields = {**fields, CATEGORIES: categories.split(",") if isinstance(categories, str) else categories}
    listed = {field: _strings(path, item, field, fields.get(field)) for field in TEXT_FIELDS}
    title, description, brand = (" ".join(listed[field]).strip() for field in (TITLE, DESCRIPTION, BRAND))
    return ItemText(title, description, brand, stripped(listed[CATEGORIES]))


def _strings(path: Path, item: str, field: str, value: Any) -> list[str]:
    """A text field as a list of strings: a string, a number, a list of strings, or null (NaN, as pandas writes it)."""
    if value is None or value != value:
        return []
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [str(value)]
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return value
    location = f"{path} item {item!r} field {field!r}"
    message = f"text is needed, not {type(value).__name__}"
    raise WrongLine(message, where=location, hint="write a string or a list of strings")


def _read_reviews(path: Path, users: Iterable[str], items: Iterable[str]) -> tuple[Review, ...] | None:
    """Reads and validates a file of reviews. Raises `InputError` for a key that is not a pair, for users and items of
    another data set, and for values that are not text."""

    def placed() -> Iterator[tuple[str, Review]]:
        for key, fields in read_json_object(path).items():
            location = f"{path} key {key!r}"
            yield location, Review(*_pair(key, location), _review_text(fields, location))

    return known_reviews(placed(), users, items)


def write_reviews(reviews: Iterable[Review]) -> str:
    """The content of a file of reviews."""
    output = {str((one.user, one.item)): {"review": one.text, "summary": ""} for one in reviews}
    return json.dumps(output, ensure_ascii=False, indent=1)


def _pair(key: str, location: str) -> tuple[str, str]:
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        pair = ast.literal_eval(key) if len(key) <= LONGEST_KEY else None
        if isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str | int) for part in pair):
            user, item = map(str, pair)  # Python writes no whole number of more than 4,300 digits
            f"{user}{item}".encode()  # nor half a character
            return user, item
    raise WrongLine("a pair of user and item is needed", where=location, hint="write \"('user', 'item')\"")


def _review_text(fields: Any, location: str) -> str:
    if not isinstance(fields, dict) or not all(isinstance(value, str | None) for value in fields.values()):
        hint = 'write {"review": "…", "summary": "…"}'
        raise WrongLine("an object of texts is needed", where=location, hint=hint)
    parts = (fields.get("summary") or "", fields.get("review") or "")
    return " ".join(" ".join(parts).split())


def index_beside(folder: Path, name: str) -> Path | None:
    """The item index of the data set `name` in a folder, None where there is none."""
    path = folder / f"{name}{INDEX}"
    return path if path.is_file() else None


def index_hashes(path: Path) -> list[str]:
    """SHA-256 of the index and of its provenance, where it has one."""
    return [sha256_of(file) for file in (path, _index_provenance(path)) if file.is_file()]


def copy_index(path: Path, folder: Path, name: str) -> None:
    """Puts the index, and the provenance beside it if it has one, into a folder as that of the data set `name`.

    Raises `InputError` where the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
        raise InputError(message, where=str(path), hint="check the path", code="unreadable-file") from error
    target = folder / f"{name}{INDEX}"
    target.write_bytes(content)
    if _index_provenance(path).is_file():
        shutil.copyfile(_index_provenance(path), _index_provenance(target))


def _index_provenance(path: Path) -> Path:
    return path.with_name(path.name + INDEX_PROVENANCE)

"""Reader of the layout of LC-Rec, LETTER and EAGER-LLM: `NAME.inter.json`, optionally `NAME.item.json`,
`NAME.review.json`.

`NAME.index.json` (ready-made item indices) is read by the generative models, not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.core.json_files import read_json_object
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.item_index_file import beside
from harness.data.ragged import RaggedArray
from harness.data.readers.interactions import numbered, repeat_notes, strange_items, texts_of
from harness.data.reading import BRAND, CATEGORIES, DESCRIPTION, TEXT_FIELDS, TITLE, Reading
from harness.data.reviews import FILE as REVIEWS
from harness.data.reviews import read_reviews
from harness.errors import InputError

INTERACTIONS = ".inter.json"
ITEMS = ".item.json"


def read(folder: Path, name: str, order: Order = "file", reading: Reading | None = None) -> Dataset:
    """{user: [item, …] in time order}: lists are in time order by definition, so there are no timestamps, and `order`
    has no effect.

    The catalogue holds the items of the interactions, in order of first appearance, user by user.
    """
    path = folder / f"{name}{INTERACTIONS}"
    for other in (f"{name}.json", f"{path.name}.gz"):
        if not path.exists() and (folder / other).exists():
            path = folder / other
    if reading is not None and (reading.columns or reading.min_rating is not None):
        option = "--columns" if reading.columns else "--min-rating"
        hint = f"leave {option} out"
        raise InputError(
            "this layout has no columns and no ratings", where=str(path), hint=hint, code="conflicting-options"
        )
    listed = read_json_object(path)
    raw = [item for user, row in listed.items() for item in _row(path, user, row)]
    items, flat = numbered(raw)
    if not items:
        raise InputError(
            "no user has an interaction", where=str(path), hint="write the data to it again", code="empty-data"
        )
    lengths = np.fromiter((len(row) for row in listed.values()), dtype=np.int64, count=len(listed))
    sequences = RaggedArray(flat, np.concatenate([[0], np.cumsum(lengths)]))
    described = folder / f"{name}{ITEMS}"
    text = read_texts(described) if described.exists() else None
    texts, notes, values = texts_of(items, text)
    return Dataset(
        name=name,
        users=tuple(listed),
        items=items,
        sequences=sequences,
        text=texts,
        source=f"LC-Rec layout, {path.name}",
        index_file=beside(folder, name),
        notes=(
            "order within a user: as the file lists it",
            *repeat_notes(sequences, len(items)),
            *notes,
            *strange_items(items, text),
        ),
        lost=values,
        warnings=strange_items(items, text),
        item_file=None if text is None else ItemFile(described, tuple(text)),
        reviews=read_reviews(output, listed, items) if (output := folder / f"{name}{REVIEWS}").exists() else None,
    )


def _row(path: Path, user: str, row: Any) -> list[str]:
    location = f"{path} user {user!r}"
    if not user.strip():
        raise InputError("empty user id", where=location, hint="give every user one", code="bad-line")
    if not isinstance(row, list):
        raise InputError(
            "a list of items is needed", where=location, hint='write {"user": ["item", …]}', code="bad-line"
        )
    row = [int(item) if isinstance(item, float) and item.is_integer() else item for item in row]
    for place, item in enumerate(row):
        if isinstance(item, bool) or not isinstance(item, str | int) or not str(item).strip():
            hint = "write item ids as strings or whole numbers"
            raise InputError(f"item {item!r} at place {place + 1} is no id", where=location, hint=hint, code="bad-line")
    return [str(item) for item in row]


def read_texts(path: Path) -> dict[str, ItemText]:
    """The text of each item of an item file, in its order."""
    return {item: _text(path, item, fields) for item, fields in read_json_object(path).items()}


def _text(path: Path, item: str, fields: Any) -> ItemText:
    if not isinstance(fields, dict):
        hint = 'write {"item": {"title": …, "description": …, "brand": …, "categories": …}}'
        raise InputError("an object of fields is needed", where=f"{path} item {item!r}", hint=hint, code="bad-line")
    categories = fields.get(CATEGORIES)
    if isinstance(categories, list) and categories and all(isinstance(part, list) for part in categories):
        fields = {**fields, CATEGORIES: categories[0]}  # paths, as Amazon's releases have them: the first one
    listed = {field: _strings(path, item, field, fields.get(field)) for field in TEXT_FIELDS}
    if isinstance(categories, str):
        listed[CATEGORIES] = [part.strip() for part in categories.split(",")]
    return ItemText(
        title=" ".join(listed[TITLE]).strip(),
        description=" ".join(listed[DESCRIPTION]).strip(),
        brand=" ".join(listed[BRAND]).strip(),
        categories=tuple(part.strip() for part in listed[CATEGORIES] if part.strip()),
    )


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
    raise InputError(message, where=location, hint="write a string or a list of strings", code="bad-line")

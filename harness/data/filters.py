"""Filters of complete data sets: short users, rare items, items without text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.data.dataset import Dataset
from harness.data.ragged import RaggedArray
from harness.data.reading import Reading
from harness.errors import InputError


def filtered(dataset: Dataset, reading: Reading) -> Dataset:
    """Iteratively drops users and items with fewer interactions than `reading` requires; with equal limits this is the
    k-core. Raises `InputError` if nothing is left."""
    if not (reading.min_user or reading.min_item):
        return dataset
    rows, items = dataset.sequences.rows(), dataset.sequences.values
    stays = np.ones(len(items), bool)
    while True:
        users_left = np.bincount(rows[stays], minlength=len(dataset.users)) >= max(reading.min_user, 1)
        items_left = np.bincount(items[stays], minlength=len(dataset.items)) >= max(reading.min_item, 1)
        fewer = stays & users_left[rows] & items_left[items]
        if fewer.sum() == stays.sum():
            break
        stays = fewer
    least = [
        f"{kind} of {count}" for kind, count in (("users", reading.min_user), ("items", reading.min_item)) if count
    ]
    requested = f"{' and '.join(least)} interactions or more"
    return _subset(dataset, stays, requested, "give lower --min-user, --min-item or --core")


def with_text(dataset: Dataset) -> Dataset:
    """Drops items without text, and their interactions. Raises `InputError` if nothing is left."""
    texts = dataset.text or ()
    empty = np.array([text.empty for text in texts] or [True] * len(dataset.items), bool)
    if not empty.any():
        return dataset
    return _subset(dataset, ~empty[dataset.sequences.values], "items with text", "choose a model that needs no text")


def _subset(dataset: Dataset, stays: np.ndarray, requested: str, hint: str) -> Dataset:
    """The interactions where `stays` (bool, one each), with their users and items; ids keep their order."""
    if not stays.any():
        raise InputError(f"nothing is left with {requested} alone", where=dataset.name, hint=hint, code="empty-data")
    rows, values = dataset.sequences.rows()[stays], dataset.sequences.values[stays]
    users, lengths = np.unique(rows, return_counts=True)
    items, values = np.unique(values, return_inverse=True)
    names_u, names_i = (tuple(ids[n] for n in of) for ids, of in ((dataset.users, users), (dataset.items, items)))
    known_u, known_i = set(names_u), set(names_i)
    reviews = dataset.reviews
    if reviews is not None:
        reviews = tuple(one for one in reviews if one.user in known_u and one.item in known_i) or None
    pair = (
        (f"users left out ({requested})", len(dataset.users) - len(users)),
        (f"items left out ({requested})", len(dataset.items) - len(items)),
        (f"interactions left out ({requested})", int((~stays).sum())),
    )
    counts = ", ".join(f"{count:,} {message.split(' ')[0]}" for message, count in pair)
    return replace(
        dataset,
        users=names_u,
        items=names_i,
        sequences=RaggedArray(values, np.concatenate([[0], np.cumsum(lengths)])),
        timestamps=None if dataset.timestamps is None else dataset.timestamps[stays],
        text=None if dataset.text is None else tuple(dataset.text[n] for n in items),
        reviews=reviews,
        lost=(*dataset.lost, *(entry for entry in pair if entry[1])),
        notes=(*dataset.notes, f"only {requested}: {counts} left out"),
    )

"""`Dataset`: an immutable data set with a content hash.

It is independent of splits, models and metrics. Readers create it; the protocol splits it.

Filters drop short users, rare items and items without text from complete data sets. Also its name as a folder of
results, and its reviews.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from harness.core.hashing import fingerprint
from harness.data.ragged import RaggedArray
from harness.data.reading import Reading
from harness.errors import InputError

# order of a user's interactions: by timestamp, or by line
Order = Literal["time", "file"]
ORDERS: tuple[Order, ...] = ("time", "file")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*")  # of a data set, as a folder of results
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+@-]+")
PLACEHOLDER = "unknown item"  # title of items without text under `missing_text=empty`


@dataclass(frozen=True)
class ItemText:
    """Texts of an item; fields that the source does not have are empty."""

    title: str = ""
    description: str = ""
    brand: str = ""
    categories: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.title or self.description or self.brand or self.categories)


class Review(NamedTuple):
    """Raw ids of user and item, and the text: summary and review. A review belongs to an interaction: it is training
    text only if the interaction is a training interaction."""

    user: str
    item: str
    text: str


def alphabetical(ids: Sequence[str]) -> np.ndarray:
    """Positions of the ids in alphabetical order; `np.argsort` of it gives the rank of each id."""
    return np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class CanonicalOrder:
    """A numbering of users and items by raw id, independent of the order of a file: for hashes, not for ids.

    `users[n]` and `items[n]` are the positions of the n-th raw id in alphabetical order; `item_ranks[i]` is the rank of
    item `i` in that order.
    """

    users: np.ndarray
    items: np.ndarray
    item_ranks: np.ndarray

    @classmethod
    def of(cls, users: Sequence[str], items: Sequence[str]) -> CanonicalOrder:
        """From raw ids."""
        user_order, item_order = alphabetical(users), alphabetical(items)
        return cls(user_order, item_order, np.argsort(item_order))

    def sequences(self, rows: RaggedArray) -> RaggedArray:
        """Rows of item ids, one a user, in this numbering."""
        ragged_array = rows.take(self.users)
        return RaggedArray(self.item_ranks[ragged_array.values], ragged_array.offsets)


@dataclass(frozen=True)
class ItemFile:
    """The item file of a data set, and the raw ids of all its rows in their order."""

    path: Path
    items: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions by user in order of time, with item text if there is any.

    User and item ids are positions in `users` and `items` (raw ids as strings, by first appearance in the source).
    `sequences[u]`: item ids, oldest first. `timestamps`: seconds since 1970, aligned with `sequences.values`; None if
    the source has an order only. `text[i]`: text of item `i`; None if the source has none. `notes`: remarks of the
    reader (ties, dropped rows); `lost`: counts of dropped data by reason. `index_file`: an item index stored with the
    data, not part of the content hash. `reviews`: by raw ids; None if there are none. `item_file`: None if there is
    none, or if its order is unknown (a stored data set). `warnings`: notes that every run shows. `placeholder`: title
    of items without text for models, not part of the content hash.
    """

    name: str
    users: tuple[str, ...]
    items: tuple[str, ...]
    sequences: RaggedArray
    timestamps: np.ndarray | None = None
    text: tuple[ItemText, ...] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    lost: tuple[tuple[str, int], ...] = ()
    index_file: Path | None = None
    reviews: tuple[Review, ...] | None = None
    item_file: ItemFile | None = None
    warnings: tuple[str, ...] = ()
    placeholder: str = ""

    def __post_init__(self) -> None:
        for kind, ids in (("user", self.users), ("item", self.items)):
            if len(set(ids)) != len(ids):
                hint = f"give every {kind} one id"
                raise InputError(f"duplicate {kind} ids", where=self.name, hint=hint, code="duplicate")
        if len(self.sequences) != len(self.users):
            raise ValueError("one sequence a user")
        values = self.sequences.values
        if len(values) and not (values.min() >= 0 and values.max() < len(self.items)):
            raise ValueError("item ids must be positions in `items`")
        if self.text is not None and len(self.text) != len(self.items):
            raise ValueError("one text an item")
        if self.timestamps is not None and len(self.timestamps) != len(values):
            raise ValueError("one timestamp an interaction")

    @property
    def interactions(self) -> int:
        return len(self.sequences.values)

    @property
    def order(self) -> Order:
        """`time` if timestamps order a user's interactions, `file` if the order of the source is used."""
        return "file" if self.timestamps is None else "time"

    @property
    def model_text(self) -> tuple[ItemText, ...] | None:
        """The text as models see it."""
        if not self.placeholder:
            return self.text
        texts = self.text or (ItemText(),) * len(self.items)
        return tuple(ItemText(title=self.placeholder) if text.empty else text for text in texts)

    @cached_property
    def canonical(self) -> CanonicalOrder:
        """Users and items in the order of their raw ids."""
        return CanonicalOrder.of(self.users, self.items)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of ids, sequences and text, without names, notes and the order of users and items: equal content from
        another layout, or from shuffled lines, has the same fingerprint."""
        order = self.canonical
        rows = order.sequences(self.sequences)
        texts = None
        if self.text is not None:
            listed = (self.text[item] for item in order.items)
            texts = [(text.title, text.description, text.brand, text.categories) for text in listed]
        users, items = [self.users[u] for u in order.users], [self.items[i] for i in order.items]
        reviews = () if self.reviews is None else (sorted(self.reviews),)
        return fingerprint(users, items, rows.values, rows.offsets, texts, *reviews)


def safe_name(name: str) -> str:
    """A name that can be a folder of results: letters without accents, other marks as one hyphen; a hash of the name
    where nothing is left of it.

    >>> safe_name("my shop é"), safe_name("ml-1m")
    ('my-shop-e', 'ml-1m')
    """
    if NAME.fullmatch(name):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = NOT_IN_NAMES.sub("-", plain).strip("-").lstrip("._+@-")
    return plain or f"data-{fingerprint(name)[:8]}"


def reviews_of(
    reviews: Sequence[Review], users: Sequence[str], items: Sequence[str], whole: RaggedArray, part: RaggedArray
) -> tuple[Review, ...]:
    """Those whose interactions all stand in `part`: of a pair that `whole` has more often than `part`, some interaction
    is held out, and which of them a review speaks of cannot be known. `users`, `items`: raw ids."""

    def counts(rows: RaggedArray) -> Mapping[int, int]:
        pairs, times = np.unique(rows.rows() * len(items) + rows.values, return_counts=True)
        return dict(zip(pairs.tolist(), times.tolist(), strict=True))

    user_rows, item_rows = ({raw: place for place, raw in enumerate(ids)} for ids in (users, items))
    in_whole, in_part = counts(whole), counts(part)
    pairs = [user_rows[review.user] * len(items) + item_rows[review.item] for review in reviews]
    return tuple(
        review for review, pair in zip(reviews, pairs, strict=True) if 0 < in_whole.get(pair, 0) == in_part.get(pair, 0)
    )


def require_text(
    text: Sequence[ItemText] | None, items: Sequence[str], *, location: str, section: str = "SECTION"
) -> Sequence[ItemText]:
    """The texts, or an `InputError` that lists items without text. `section`: section of the model, for the message."""
    if text is None:
        message = "this data set has no item text, and the model needs it"
        hint = "add an item file with titles, or choose a model that needs no text"
        raise InputError(message, where=location, hint=hint, code="empty-data")
    if empty := [items[i] for i, entry in enumerate(text) if entry.empty]:
        examples = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        message = f"{len(empty)} of {len(items)} items have no text ({examples})"
        ways = f"say --set {section}.missing_text=drop (without them) or =empty (under a stand-in title)"
        hint = f"add titles to its items, {ways}, or choose a model that needs no text"
        raise InputError(message, where=location, hint=hint, code="empty-data")
    return text


def filtered(dataset: Dataset, reading: Reading) -> Dataset:
    """Iteratively drops users and items with fewer interactions than `reading` requires; with equal limits this is the
    k-core. Raises `InputError` if nothing is left."""
    least = (("users", reading.min_user), ("items", reading.min_item))
    if not any(count for _, count in least):
        return dataset
    stays = np.ones(dataset.interactions, bool)
    for passed in core_passes(dataset.sequences.rows(), dataset.sequences.values, reading.min_user, reading.min_item):
        stays[stays] = passed
    requested = " and ".join(f"{kind} of {count}" for kind, count in least if count) + " interactions or more"
    return _subset(dataset, stays, requested, "give lower --min-user, --min-item or --core")


def core_passes(users: np.ndarray, items: np.ndarray, min_user: int, min_item: int) -> Iterator[np.ndarray]:
    """The passes of the k-core: each counts users and items once, and keeps the rows where both have enough.

    `users` and `items` are ids, one a row. Yields a bool for each row that the pass before has kept, as long as a pass
    drops rows.
    """
    while True:
        stays = (np.bincount(users)[users] >= min_user) & (np.bincount(items)[items] >= min_item)
        if stays.all():
            return
        yield stays
        users, items = users[stays], items[stays]


def with_text(dataset: Dataset) -> Dataset:
    """Drops items without text, and their interactions. Raises `InputError` if nothing is left."""
    empty = np.array([text.empty for text in dataset.text or [ItemText()] * len(dataset.items)], bool)
    if not empty.any():
        return dataset
    return _subset(dataset, ~empty[dataset.sequences.values], "items with text", "choose a model that needs no text")


def _subset(dataset: Dataset, stays: np.ndarray, requested: str, hint: str) -> Dataset:
    """The interactions where `stays` (bool, one each), with their users and items; ids keep their order."""
    if not stays.any():
        raise InputError(f"nothing is left with {requested} alone", where=dataset.name, hint=hint, code="empty-data")
    users, lengths = np.unique(dataset.sequences.rows()[stays], return_counts=True)
    items, values = np.unique(dataset.sequences.values[stays], return_inverse=True)
    raw_users, raw_items = tuple(dataset.users[n] for n in users), tuple(dataset.items[n] for n in items)
    reviews = dataset.reviews
    if reviews is not None:
        known_users, known_items = set(raw_users), set(raw_items)
        reviews = tuple(one for one in reviews if one.user in known_users and one.item in known_items) or None
    dropped = (
        ("users", len(dataset.users) - len(users)),
        ("items", len(dataset.items) - len(items)),
        ("interactions", int((~stays).sum())),
    )
    counts = ", ".join(f"{count:,} {kind}" for kind, count in dropped)
    return replace(
        dataset,
        users=raw_users,
        items=raw_items,
        sequences=RaggedArray.of_lengths(values, lengths),
        timestamps=None if dataset.timestamps is None else dataset.timestamps[stays],
        text=None if dataset.text is None else tuple(dataset.text[n] for n in items),
        reviews=reviews,
        lost=(*dataset.lost, *((f"{kind} left out ({requested})", count) for kind, count in dropped if count)),
        notes=(*dataset.notes, f"only {requested}: {counts} left out"),
    )

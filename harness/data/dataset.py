"""`Dataset`: an immutable data set with a content hash.

It is independent of splits, models and metrics. Readers create it; the protocol splits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from harness.core.hashing import fingerprint
from harness.data.ragged import RaggedArray
from harness.data.reviews import Review
from harness.errors import InputError

# what orders a user's interactions: timestamps, or the lines as they stand
Order = Literal["time", "file"]
ORDERS: tuple[Order, ...] = ("time", "file")

PLACEHOLDER = "unknown item"  # the title of an item without text, where a model is to do with that


@dataclass(frozen=True)
class ItemText:
    """What an item says of itself; fields that a source lacks are empty."""

    title: str = ""
    description: str = ""
    brand: str = ""
    categories: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.title or self.description or self.brand or self.categories)


@dataclass(frozen=True, eq=False)
class CanonicalOrder:
    """A naming of users and items that does not depend on the order of a file: for hashes, never for ids.

    `users[n]` and `items[n]` are the positions of the n-th raw id in alphabetical order; `item_ranks[i]` is the place
    of item `i` in that order.
    """

    users: np.ndarray
    items: np.ndarray
    item_ranks: np.ndarray

    @classmethod
    def of(cls, users: Sequence[str], items: Sequence[str]) -> CanonicalOrder:
        """From raw ids."""
        user_order, item_order = (
            np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64) for ids in (users, items)
        )
        ranks = np.empty(len(items), np.int64)
        ranks[item_order] = np.arange(len(items))
        return cls(user_order, item_order, ranks)

    def sequences(self, rows: RaggedArray) -> RaggedArray:
        """Rows of item ids, one a user, under this naming."""
        ragged_array = rows.take(self.users)
        return RaggedArray(self.item_ranks[ragged_array.values], ragged_array.offsets)


@dataclass(frozen=True)
class ItemFile:
    """The item file that a data set was read with, and the raw ids of all its rows in the file's order."""

    path: Path
    items: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions in time order, user by user, with item text where there is some.

    User and item ids inside the harness are positions in `users` and `items` (raw ids as strings, in order of first
    appearance in the source). `sequences[u]` holds item ids, oldest first. `timestamps` (seconds since 1970, aligned
    with `sequences.values`) is None where the source states only an order. `text[i]` belongs to item `i`; None where
    the source has no text at all. `notes` says in words what the reader did (ties, dropped rows); `lost` counts
    what did not make it into the data set, each with its reason. `index_file` is a ready-made item index that lies
    beside the data: for models that ask for it, and no part of the content hash. `reviews` names users and items by
    raw ids; None where the source has none. `item_file` is None where there is none, or where its order is not known (a
    data set kept on this machine). `warnings` are the notes that every run shows.
    `placeholder` is the title that models are given of items without text: no part of the content hash.
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
                raise InputError(
                    f"duplicate {kind} ids", where=self.name, hint=f"give every {kind} one id", code="duplicate"
                )
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
        """`time` where timestamps order a user's interactions, `file` where the source's own order is taken."""
        return "file" if self.timestamps is None else "time"

    @property
    def model_text(self) -> tuple[ItemText, ...] | None:
        """The text as models are given it."""
        if not self.placeholder:
            return self.text
        texts = self.text or (ItemText(),) * len(self.items)
        return tuple(ItemText(title=self.placeholder) if text.empty else text for text in texts)

    @cached_property
    def canonical(self) -> CanonicalOrder:
        """Users and items in the order of their raw ids, whatever order the source has them in."""
        return CanonicalOrder.of(self.users, self.items)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of ids, sequences and text; names and notes do not count, nor does the order of users and items: the
        same content read from another layout, or from shuffled lines, has the same fingerprint."""
        order = self.canonical
        rows = order.sequences(self.sequences)
        texts = None
        if self.text is not None:
            listed = (self.text[item] for item in order.items)
            texts = [(text.title, text.description, text.brand, text.categories) for text in listed]
        users, items = [self.users[u] for u in order.users], [self.items[i] for i in order.items]
        reviews = () if self.reviews is None else (sorted(self.reviews),)
        return fingerprint(users, items, rows.values, rows.offsets, texts, *reviews)


def require_text(
    text: Sequence[ItemText] | None, items: Sequence[str], *, location: str, section: str = "SECTION"
) -> Sequence[ItemText]:
    """The texts, or an `InputError` that names the items that have none. `section` is the model's, for the message."""
    if text is None:
        hint = "add an item file with titles, or choose a model that needs no text"
        raise InputError(
            "this data set has no item text, and the model needs it", where=location, hint=hint, code="empty-data"
        )
    ways = f"say --set {section}.missing_text=drop (without them) or =empty (under a stand-in title)"
    hint = f"add titles to its items, {ways}, or choose a model that needs no text"
    empty = [items[i] for i, entry in enumerate(text) if entry.empty]
    if empty:
        examples = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        raise InputError(
            f"{len(empty)} of {len(items)} items have no text ({examples})",
            where=location,
            hint=hint,
            code="empty-data",
        )
    return text

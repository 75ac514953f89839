"""`Dataset`: one frozen value that holds what a data set is, and its content hash.

Knows nothing of splits, models and metrics. Readers make it; the protocol cuts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from harness.data.ragged import Ragged
from harness.errors import InputError
from harness.fingerprint import fingerprint


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
class Dataset:
    """Interactions in time order, user by user, with item text where there is some.

    User and item ids inside the harness are positions in `users` and `items` (raw ids as strings, in order of first
    appearance in the source). `sequences[u]` holds item ids, oldest first. `timestamps` (seconds since 1970, aligned
    with `sequences.values`) is None where the source states only an order. `text[i]` belongs to item `i`; None where
    the source has no text at all. `notes` says in words what the reader did (ties, dropped rows).
    """

    name: str
    users: tuple[str, ...]
    items: tuple[str, ...]
    sequences: Ragged
    timestamps: np.ndarray | None = None
    text: tuple[ItemText, ...] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind, ids in (("user", self.users), ("item", self.items)):
            if len(set(ids)) != len(ids):
                raise InputError(f"duplicate {kind} ids", where=self.name, mend=f"give every {kind} one id")
        if len(self.sequences) != len(self.users):
            raise ValueError("one sequence a user")
        values = self.sequences.values
        if len(values) and not (0 <= values.min() and values.max() < len(self.items)):
            raise ValueError("item ids must be positions in `items`")
        if self.text is not None and len(self.text) != len(self.items):
            raise ValueError("one text an item")
        if self.timestamps is not None and len(self.timestamps) != len(values):
            raise ValueError("one timestamp an interaction")

    @property
    def interactions(self) -> int:
        return len(self.sequences.values)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of ids, sequences and text; names and notes do not count."""
        texts = None if self.text is None else [asdict(text) for text in self.text]
        return fingerprint(self.users, self.items, self.sequences.values, self.sequences.offsets, texts)


def require_text(text: Sequence[ItemText] | None, items: Sequence[str], *, where: str) -> Sequence[ItemText]:
    """The texts, or an `InputError` that names the items that have none."""
    mend = "add titles to its items, or choose a model that needs no text"
    if text is None:
        raise InputError("this data set has no item text, and the model needs it", where=where, mend=mend)
    empty = [items[i] for i, entry in enumerate(text) if entry.empty]
    if empty:
        shown = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        raise InputError(f"{len(empty)} of {len(items)} items have no text ({shown})", where=where, mend=mend)
    return text

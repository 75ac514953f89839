"""A table of (user, item, timestamp) rows becomes a `Dataset`; what CSV and atomic files have in common.

Owns ids by first appearance, the order in time and its tie rule, and the checks of both. Where the rows come from is
the reader's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.dataset import Dataset, ItemText
from harness.data.ragged import Ragged
from harness.errors import InputError

TIE_RULE = "order within a user: by timestamp, equal timestamps by line in the file"


@dataclass(frozen=True)
class Log:
    """Columns of one interactions file, row by row in the file's order; `lines[n]` is where row `n` stands in it."""

    path: Path
    users: Sequence[str]
    items: Sequence[str]
    timestamps: Sequence[str]
    lines: Sequence[int]

    def dataset(self, name: str, text: Mapping[str, ItemText] | None, source: str) -> Dataset:
        """Users and items in order of first appearance in the file; each user's rows by (timestamp, line)."""
        for field, ids in (("user", self.users), ("item", self.items)):
            for row, raw in enumerate(ids):
                if not raw.strip():
                    raise InputError(f"empty {field} id", where=self._at(row, field), mend="give every row one")
        times = self._times()
        users, user_rows = numbered(self.users)
        items, item_rows = numbered(self.items)
        order = np.lexsort((np.arange(len(times)), times, user_rows))
        offsets = np.concatenate([[0], np.cumsum(np.bincount(user_rows, minlength=len(users)))])
        sequences = Ragged(item_rows[order], offsets)
        texts, notes = texts_of(items, text)
        return Dataset(
            name=name,
            users=users,
            items=items,
            sequences=sequences,
            timestamps=times[order],
            text=texts,
            source=source,
            notes=(TIE_RULE, *repeat_notes(sequences, len(items)), *notes),
        )

    def _times(self) -> np.ndarray:
        """Seconds since 1970, float64; finite, not negative, and not all the same."""
        try:
            times = np.array(self.timestamps, dtype=np.str_).astype(np.float64)
        except ValueError:
            times = np.array([_number(raw) for raw in self.timestamps])
        bad = np.flatnonzero(~(np.isfinite(times) & (times >= 0)))
        if len(bad):
            row = int(bad[0])
            what = f"timestamp {self.timestamps[row]!r} is not a number of seconds since 1970"
            raise InputError(what, where=self._at(row, "timestamp"), mend="give each row a finite number, 0 or more")
        if len(times) > 1 and (times == times[0]).all():
            raise InputError(
                f"all {len(times)} timestamps are {self.timestamps[0]}: they state no order in time",
                where=f"{self.path} field 'timestamp'",
                mend="give the true times; the order of lines may not pass for an order in time",
            )
        return times

    def _at(self, row: int, field: str) -> str:
        return f"{self.path} line {self.lines[row]} field {field!r}"


def numbered(ids: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct ids in order of first appearance, and the position of each given id among them."""
    places: dict[str, int] = {}
    rows = np.fromiter((places.setdefault(raw, len(places)) for raw in ids), dtype=np.int64, count=len(ids))
    return tuple(places), rows


def texts_of(
    items: Sequence[str], text: Mapping[str, ItemText] | None
) -> tuple[tuple[ItemText, ...] | None, tuple[str, ...]]:
    """The text of each item of the catalogue, and notes on what was left over on either side."""
    if text is None:
        return None, ()
    nothing = ItemText()
    texts = tuple(text.get(item, nothing) for item in items)
    unused = len(text) - sum(item in text for item in items)
    notes = []
    if unused:
        notes.append(f"{unused} items stand only in the item file and are no part of the catalogue")
    if missing := sum(entry.empty for entry in texts):
        notes.append(f"{missing} of {len(items)} items have no text")
    return texts, tuple(notes)


def repeat_notes(sequences: Ragged, n_items: int) -> tuple[str, ...]:
    """A note on interactions that repeat a (user, item) pair; they are kept."""
    repeats = len(sequences.values) - len(np.unique(sequences.rows() * n_items + sequences.values))
    return (f"{repeats} interactions repeat an item of the same user; they are kept",) if repeats else ()


def _number(raw: str) -> float:
    try:
        return float(raw)
    except ValueError:
        return float("nan")

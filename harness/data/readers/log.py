"""A table of (user, item, timestamp) rows becomes a `Dataset`; what CSV and atomic files have in common.

Owns ids by first appearance, the order in time and its tie rule, and the checks of both. Where the rows come from is
the reader's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.dataset import Dataset, ItemText, Order
from harness.data.ragged import Ragged
from harness.errors import InputError, shortened

TIE_RULE = "order within a user: by timestamp, equal timestamps by line in the file"
UNUSED = "items that stand only in the item file"
FILE_RULE = "order within a user: by line in the file, as --order file says; timestamps are not used"
WITHOUT_TIME = "; or say --order file where the order of rows is the order in time"
LONGEST_NUMBER = 64  # characters of a timestamp
MEND = "give the true times, or say --order file where the order of lines is the order in time"


@dataclass(frozen=True)
class Log:
    """Columns of one interactions file, row by row in the file's order; `lines[n]` is where row `n` stands in it.
    `timestamps` are text, or float64 with NaN where there is none; with the order `file` they are not looked at.
    `catalogue` lists items in the order that their ids are to have, where the source states one."""

    path: Path
    users: Sequence[str]
    items: Sequence[str]
    timestamps: Sequence[str] | np.ndarray
    lines: Sequence[int]
    order: Order = "time"
    catalogue: Sequence[str] = ()
    unit: str = "line"

    def dataset(self, name: str, text: Mapping[str, ItemText] | None, source: str) -> Dataset:
        """Users and items in order of first appearance in the file; each user's rows by (timestamp, line), or by line
        alone where `order` says so, and then without timestamps."""
        for field, ids in (("user", self.users), ("item", self.items)):
            for row, raw in enumerate(ids):
                if not raw.strip():
                    raise InputError(f"empty {field} id", where=self._at(row, field), mend="give every row one")
        users, user_rows = numbered(self.users)
        bought = set(self.items)
        listed = [item for item in self.catalogue if item in bought]
        items, item_rows = numbered([*listed, *self.items])
        item_rows = item_rows[len(listed) :]
        times = self._times() if self.order == "time" else None
        order = np.argsort(user_rows, kind="stable") if times is None else np.lexsort((times, user_rows))
        if times is not None:
            self._check_order(times[order], user_rows[order])
        offsets = np.concatenate([[0], np.cumsum(np.bincount(user_rows, minlength=len(users)))])
        sequences = Ragged(item_rows[order], offsets)
        texts, notes, lost = texts_of(items, text)
        return Dataset(
            name=name,
            users=users,
            items=items,
            sequences=sequences,
            timestamps=None if times is None else times[order],
            text=texts,
            source=source,
            notes=(FILE_RULE if times is None else TIE_RULE, *repeat_notes(sequences, len(items)), *notes),
            lost=lost,
        )

    def _times(self) -> np.ndarray:
        """Seconds since 1970, float64; finite, not negative, and not all the same."""
        try:
            given = self.timestamps
            times = given if isinstance(given, np.ndarray) else _parsed(given)
        except ValueError:
            times = np.array([_number(raw) for raw in self.timestamps])
        bad = np.flatnonzero(~(np.isfinite(times) & (times >= 0)))
        if len(bad):
            row = int(bad[0])
            what = f"timestamp {_shown(self.timestamps[row])} is not a number of seconds since 1970"
            raise InputError(what, where=self._at(row, "timestamp"), mend="give each row a finite number, 0 or more")
        if len(times) > 1 and (times == times[0]).all():
            raise InputError(
                f"all {len(times)} timestamps are {self.timestamps[0]}: they state no order in time",
                where=f"{self.path} field 'timestamp'",
                mend=MEND,
            )
        return times

    def _check_order(self, times: np.ndarray, users: np.ndarray) -> None:
        """Times that differ between users but never within one state no order either; both arrays are sorted."""
        within = users[1:] == users[:-1]
        if within.any() and not (times[1:] != times[:-1])[within].any():
            what = "no user has two different timestamps: they state no order in time"
            raise InputError(what, where=f"{self.path} field 'timestamp'", mend=MEND)

    def _at(self, row: int, field: str) -> str:
        return f"{self.path} {self.unit} {self.lines[row]} field {field!r}"


def numbered(ids: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct ids in order of first appearance, and the position of each given id among them."""
    places: dict[str, int] = {}
    rows = np.fromiter((places.setdefault(raw, len(places)) for raw in ids), dtype=np.int64, count=len(ids))
    return tuple(places), rows


def texts_of(
    items: Sequence[str], text: Mapping[str, ItemText] | None
) -> tuple[tuple[ItemText, ...] | None, tuple[str, ...], tuple[tuple[str, int], ...]]:
    """The text of each item of the catalogue, notes on what was left over on either side, and what was lost."""
    if text is None:
        return None, (), ()
    nothing = ItemText()
    texts = tuple(text.get(item, nothing) for item in items)
    unused = len(text) - sum(item in text for item in items)
    notes = []
    if unused:
        notes.append(f"{unused} items stand only in the item file and are no part of the catalogue")
    if missing := sum(entry.empty for entry in texts):
        notes.append(f"{missing} of {len(items)} items have no text")
    return texts, tuple(notes), ((UNUSED, unused),) if unused else ()


def repeat_notes(sequences: Ragged, n_items: int) -> tuple[str, ...]:
    """A note on interactions that repeat a (user, item) pair; they are kept."""
    repeats = len(sequences.values) - len(np.unique(sequences.rows() * n_items + sequences.values))
    return (f"{repeats} interactions repeat an item of the same user; they are kept",) if repeats else ()


def _parsed(texts: Sequence[str]) -> np.ndarray:
    """Numbers of texts. Raises `ValueError`, also for texts of a length that no number has: an array of text takes the
    longest one's room for each."""
    if max(map(len, texts), default=0) > LONGEST_NUMBER:
        raise ValueError("too long for a number")
    return np.array(texts, dtype=np.str_).astype(np.float64)


def _shown(raw: object) -> str:
    return shortened(repr(raw)) if isinstance(raw, str) else str(raw)


def _number(raw: str) -> float:
    try:
        return float(raw)
    except ValueError:
        return float("nan")

"""Builds a `Dataset` from rows (user, item, timestamp), for all readers of tables.

Ids are numbered by first appearance; rows are sorted by time, ties by the order of rows; both are checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.ragged import RaggedArray
from harness.data.readers.times import SECONDS, UNDECIDED, Times, number, read_times
from harness.data.reading import EXAMPLES, BadLines, Reading
from harness.errors import InputError, truncate

TIE_RULE = "order within a user: by timestamp, equal timestamps by line in the file"
UNUSED = "items that stand only in the item file"
FILE_RULE = "order within a user: by line in the file, as --order file says; timestamps are not used"
WITHOUT_TIME = "; or say --order file where the order of rows is the order in time"
LEFT_OUT = "lines of the interactions file that are wrong"
MISSING = frozenset(
    ("NA", "N/A", "<NA>", "nan", "NaN", "null", "NULL", "None", "\\N")
)  # no ids, whoever wrote the file
_WHOLE = re.compile(r"\d+(\.0)?", re.ASCII)
_ROUNDED = re.compile(r"\d(\.\d+)?[eE]\+\d\d+", re.ASCII)  # 9.78E+12: a spreadsheet or a statistics program wrote it
ORDER_HINT = "give the true times, or say --order file where the order of lines is the order in time"


@dataclass(frozen=True)
class Log:
    """Columns of one interactions file, row by row in the file's order; `lines[n]` is where row `n` stands in it.
    `timestamps` are text, or float64 with NaN where there is none; with the order `file` they are not looked at.
    `catalogue` lists items in the order that their ids are to have, where the source states one. `fields` has the
    file's names of our columns, `bad` the lines that are no rows, `notes` what the reader says besides. `in_seconds`:
    the timestamps are known to be seconds, whatever their span. `exact`: ids are kept as they are, as a file with types
    states them."""

    path: Path
    users: Sequence[str]
    items: Sequence[str]
    timestamps: Sequence[str] | np.ndarray
    lines: Sequence[int]
    order: Order = "time"
    catalogue: Sequence[str] = ()
    unit: str = "line"
    fields: Mapping[str, str] = field(default_factory=dict)
    ratings: Sequence[str] | np.ndarray | None = None
    reading: Reading = field(default_factory=Reading)
    bad: BadLines | None = None
    notes: tuple[str, ...] = ()
    item_file: ItemFile | None = None
    in_seconds: bool = False
    exact: bool = False

    def dataset(self, name: str, text: Mapping[str, ItemText] | None, source: str) -> Dataset:
        """Users and items in order of first appearance in the file; each user's rows by (timestamp, line), or by line
        alone where `order` says so, and then without timestamps. Rows that are wrong are left out, up to the share
        that `reading` tolerates; rows that are rated too low are left out without a limit."""
        log = self if self.exact else replace(self, users=plain_ids(self.users), items=plain_ids(self.items))
        return log._dataset(name, text, source)

    def _dataset(self, name: str, text: Mapping[str, ItemText] | None, source: str) -> Dataset:
        bad = self.bad or BadLines(self.path.name, self.reading)
        lines = len(self.users) + bad.count
        mask, read = self._sound(bad)
        left_out = bad.settle(lines)
        low = self._rated_low(mask)
        mask = mask[~low]
        if not len(mask):
            label = f"no interaction is rated {self.reading.min_rating:g} or more" if low.any() else "no rows"
            raise InputError(
                label, where=str(self.path), hint="give a lower --min-rating" if low.any() else None, code="empty-data"
            )
        current_dataset = self._made(name, text, source, (mask, None if read is None else read.seconds[mask]))
        pair = ((LEFT_OUT, bad.count),) if bad.count else ()
        pair += ((f"interactions rated below {self.reading.min_rating:g}", int(low.sum())),) if low.any() else ()
        warnings = (*left_out, *(read.warnings() if read else ()), *current_dataset.warnings)
        message = (*(read.notes() if read else ()), *warnings, *self._ratings_note(), *self.notes)
        return replace(
            current_dataset,
            notes=(*current_dataset.notes, *message),
            lost=(*pair, *current_dataset.lost),
            warnings=warnings,
        )

    def _made(
        self,
        name: str,
        text: Mapping[str, ItemText] | None,
        source: str,
        rows: tuple[np.ndarray, np.ndarray | None],
    ) -> Dataset:
        """The data set of the rows that count, with their times."""
        mask, times = rows
        places: list[int] = mask.tolist()
        given_users, given_items = [self.users[row] for row in places], [self.items[row] for row in places]
        users, user_rows = numbered(given_users)
        names = set(given_items)
        listed = [item for item in self.catalogue if item in names]
        items, item_rows = numbered([*listed, *given_items])
        item_rows = item_rows[len(listed) :]
        order = np.argsort(user_rows, kind="stable") if times is None else np.lexsort((times, user_rows))
        if times is not None:
            self._check_order(times[order], user_rows[order])
        offsets = np.concatenate([[0], np.cumsum(np.bincount(user_rows, minlength=len(users)))])
        sequences = RaggedArray(item_rows[order], offsets)
        texts, notes, values = texts_of(items, text)
        return Dataset(
            name=name,
            users=users,
            items=items,
            sequences=sequences,
            timestamps=None if times is None else times[order],
            text=texts,
            source=source,
            notes=(FILE_RULE if times is None else TIE_RULE, *repeat_notes(sequences, len(items)), *notes),
            lost=values,
            item_file=self.item_file,
            warnings=strange_items(items, text),
        )

    def _sound(self, bad: BadLines) -> tuple[np.ndarray, Times | None]:
        """The rows that have a user, an item and a time; and all times."""
        wrong = np.zeros(len(self.users), bool)
        for kind, ids in (("user", self.users), ("item", self.items)):
            invalid = {raw for raw in set(ids) if not raw.strip() or (not self.exact and _ROUNDED.fullmatch(raw))}
            for row in [row for row, raw in enumerate(ids) if raw in invalid] if invalid else ():
                if not wrong[row]:
                    bad.add(self._no_id(row, kind, ids[row]))
                wrong[row] = True
        if self.order == "file":
            return np.flatnonzero(~wrong), None
        read = read_times(self.timestamps, in_seconds=self.in_seconds)
        timeless = np.flatnonzero(~np.isfinite(read.seconds) & ~wrong)
        bad.add_all(self._no_time(row, read.unit) for row in timeless[:EXAMPLES].tolist())
        bad.count += max(0, len(timeless) - EXAMPLES)
        wrong[timeless] = True
        self._check_constant(read.seconds[~wrong])
        return np.flatnonzero(~wrong), read

    def _no_id(self, row: int, kind: str, raw: str) -> InputError:
        message, hint = f"empty {kind} id", "give every row one (NA, nan, null and \\N count as empty)"
        if raw.strip():
            message, hint = f"{kind} id {raw!r} is a rounded number", "write ids with all their digits, as text"
        return InputError(message, where=self._at(row, kind), hint=hint, code="bad-line")

    def _no_time(self, row: int, unit: str) -> InputError:
        if unit == UNDECIDED:
            label = f"timestamp {_shown(self.timestamps[row])} may begin with the day or with the month"
            hint = "write dates as 2018-01-31"
            return InputError(label, where=self._at(row, "timestamp"), hint=hint, code="bad-line")
        message = "" if unit == SECONDS else f", which most of the column has ({unit})"
        label = f"timestamp {_shown(self.timestamps[row])} is not a number of {SECONDS}, nor another time{message}"
        hint = "give each row a time between 1970 and 2100, all in one unit, or dates as 2018-01-31"
        return InputError(label, where=self._at(row, "timestamp"), hint=hint, code="bad-line")

    def _check_constant(self, times: np.ndarray) -> None:
        if len(times) > 1 and (times == times[0]).all():
            raise InputError(
                f"all {len(times)} timestamps are {self.timestamps[0]}: they state no order in time",
                where=f"{self.path} field {self._field('timestamp')!r}",
                hint=ORDER_HINT,
                code="no-time-order",
            )

    def _check_order(self, times: np.ndarray, users: np.ndarray) -> None:
        """Times that differ between users but never within one state no order either; both arrays are sorted."""
        inside = users[1:] == users[:-1]
        if inside.any() and not (times[1:] != times[:-1])[inside].any():
            message = "no user has two different timestamps: they state no order in time"
            raise InputError(
                message, where=f"{self.path} field {self._field('timestamp')!r}", hint=ORDER_HINT, code="no-time-order"
            )

    def _rated_low(self, rows: np.ndarray) -> np.ndarray:
        """Bool, one a row of `rows`: rated lower than `--min-rating`, or without a rating where there is one."""
        minimum = self.reading.min_rating
        if minimum is None:
            return np.zeros(len(rows), bool)
        if self.ratings is None:
            hint = "leave --min-rating out, or name the column with --columns rating=NAME"
            raise InputError("there is no column of ratings", where=str(self.path), hint=hint, code="missing-column")
        if isinstance(self.ratings, np.ndarray):
            ratings = self.ratings[rows]
        else:
            names: Sequence[str] = self.ratings
            places: list[int] = rows.tolist()
            ratings = np.array([number(names[row]) for row in places], np.float64)
        return ~(ratings >= minimum)

    def _ratings_note(self) -> tuple[str, ...]:
        if self.ratings is None or self.reading.min_rating is not None:
            return ()
        return ("ratings are not used: every interaction counts alike (--min-rating leaves out lower ones)",)

    def _field(self, canonical: str) -> str:
        return self.fields.get(canonical, canonical)

    def _at(self, row: int, kind: str) -> str:
        return f"{self.path} {self.unit} {self.lines[row]} field {self._field(kind)!r}"


def plain_ids(ids: Sequence[str]) -> list[str]:
    """Ids without blanks around them; empty where the file says that there is none. Whole numbers without the `.0` that
    pandas writes in a column with gaps, if all ids are whole numbers.

    >>> plain_ids([" a", "NA", "b"]), plain_ids(["3.0", "", "12"]), plain_ids(["3.0", "a"])
    (['a', '', 'b'], ['3', '', '12'], ['3.0', 'a'])
    """
    plain = ["" if (text := raw.strip()) in MISSING else text for raw in ids]
    if any(text.endswith(".0") for text in plain) and all(not text or _WHOLE.fullmatch(text) for text in plain):
        return [text.removesuffix(".0") for text in plain]
    return plain


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
    item_text = ItemText()
    texts = tuple(text.get(item, item_text) for item in items)
    unused = len(text) - sum(item in text for item in items)
    notes = []
    if unused:
        notes.append(f"{unused} items stand only in the item file and are no part of the catalogue")
    if missing := sum(entry.empty for entry in texts):
        notes.append(f"{missing} of {len(items)} items have no text")
    return texts, tuple(notes), ((UNUSED, unused),) if unused else ()


def strange_items(items: Sequence[str], text: Mapping[str, ItemText] | None) -> tuple[str, ...]:
    """A warning of an item file of which no item is in the interactions."""
    if not text or not items or not text.keys().isdisjoint(items):
        return ()
    return (f"no item has text: the item file has ids such as {next(iter(text))!r}, the interactions {items[0]!r}",)


def repeat_notes(sequences: RaggedArray, n_items: int) -> tuple[str, ...]:
    """A note on interactions that repeat a (user, item) pair; they are kept."""
    repeats = len(sequences.values) - len(np.unique(sequences.rows() * n_items + sequences.values))
    return (f"{repeats} interactions repeat an item of the same user; they are kept",) if repeats else ()


def _shown(raw: object) -> str:
    return truncate(repr(raw)) if isinstance(raw, str) else str(raw)

"""Builds a `Dataset` from rows (user, item, timestamp), for all readers of tables.

Ids are numbered by first appearance; rows are sorted by time, ties by the order of rows; both are checked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.ragged import RaggedArray
from harness.data.readers.item_texts import catalogue_texts
from harness.data.readers.table_files import TableFile
from harness.data.readers.times import SECONDS, UNDECIDED, Times, number, read_times
from harness.data.reading import EXAMPLES, ITEM, PLAIN, RATING, TIMESTAMP, USER, BadLines, Reading, WrongLine
from harness.data.statistics import repeats
from harness.errors import InputError, truncate

TIE_RULE = "order within a user: by timestamp, equal timestamps by line in the file"
FILE_RULE = "order within a user: by line in the file, as --order file says; timestamps are not used"
LEFT_OUT = "lines of the interactions file that are wrong"
# no ids, whoever wrote the file
MISSING = frozenset(("NA", "N/A", "<NA>", "nan", "NaN", "null", "NULL", "None", "\\N"))
_WHOLE = re.compile(r"\d+(\.0)?", re.ASCII)
_ROUNDED = re.compile(r"\d(\.\d+)?[eE]\+\d\d+", re.ASCII)  # 9.78E+12: a spreadsheet or a statistics program wrote it


@dataclass
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
    reading: Reading = PLAIN
    bad: BadLines | None = None
    notes: tuple[str, ...] = ()
    item_file: ItemFile | None = None
    in_seconds: bool = False
    exact: bool = False

    @classmethod
    def of_table(
        cls, file: TableFile, places: Mapping[str, str], order: Order, reading: Reading, item_file: ItemFile | None
    ) -> Log:
        """From a table; `places` maps our columns to the file's."""
        users, items = file.column(places[USER]), file.column(places[ITEM])
        times = file.column(places[TIMESTAMP]) if order == "time" else []
        log = cls(file.path, users, items, times, file.lines, order, reading=reading, bad=file.bad, item_file=item_file)
        log.ratings = file.column(places[RATING]) if RATING in places else None
        return log

    def __post_init__(self) -> None:
        if not self.exact:
            self.users, self.items = plain_ids(self.users), plain_ids(self.items)

    def dataset(self, name: str, text: Mapping[str, ItemText] | None, source: str) -> Dataset:
        """Users and items in order of first appearance in the file; each user's rows by (timestamp, line), or by line
        alone where `order` says so, and then without timestamps. Rows that are wrong are left out, up to the share
        that `reading` tolerates; rows that are rated too low are left out without a limit."""
        bad = self.bad or BadLines(self.path.name, self.reading)
        lines = len(self.users) + bad.count
        rows, times = self._sound(bad)
        left_out = bad.settle(lines)
        low = self._rated_low(rows)
        rows, minimum = rows[~low], self.reading.min_rating
        dropped = {LEFT_OUT: bad.count, f"interactions rated below {minimum or 0:g}": int(low.sum())}
        if not len(rows):
            message, hint = "no rows", None
            if low.any():
                message, hint = f"no interaction is rated {minimum:g} or more", "give a lower --min-rating"
            raise InputError(message, where=str(self.path), hint=hint, code="empty-data")
        dataset = self._numbered(name, rows, None if times is None else times.seconds[rows])
        texts, text_notes, unused, strange = catalogue_texts(dataset.items, text)
        notes: list[str] = [FILE_RULE if times is None else TIE_RULE, *repeat_notes(dataset), *text_notes]
        warnings = (*left_out, *(times.warnings() if times else ()), *strange)
        notes += [*(times.notes() if times else ()), *warnings]
        if self.ratings is not None and minimum is None:
            notes.append("ratings are not used: every interaction counts alike (--min-rating leaves out lower ones)")
        return replace(
            dataset,
            text=texts,
            source=source,
            notes=(*notes, *self.notes),
            lost=(*((reason, count) for reason, count in dropped.items() if count), *unused),
            warnings=warnings,
        )

    def _numbered(self, name: str, rows: np.ndarray, times: np.ndarray | None) -> Dataset:
        """The data set of the rows that count, with their times, still without texts."""
        places: list[int] = rows.tolist()
        raw_users, raw_items = [self.users[row] for row in places], [self.items[row] for row in places]
        users, user_rows = numbered(raw_users)
        names = set(raw_items)
        listed = [item for item in self.catalogue if item in names]
        items, item_rows = numbered([*listed, *raw_items])
        item_rows = item_rows[len(listed) :]
        order = np.argsort(user_rows, kind="stable") if times is None else np.lexsort((times, user_rows))
        sequences = RaggedArray.of_lengths(item_rows[order], np.bincount(user_rows, minlength=len(users)))
        if times is not None:
            times, sorted_users = times[order], user_rows[order]
            inside = sorted_users[1:] == sorted_users[:-1]
            if inside.any() and not (times[1:] != times[:-1])[inside].any():  # they differ between users alone
                raise self._no_order("no user has two different timestamps")
        return Dataset(name, users, items, sequences, timestamps=times, item_file=self.item_file)

    def _sound(self, bad: BadLines) -> tuple[np.ndarray, Times | None]:
        """The rows that have a user, an item and a time; and all times."""
        wrong = np.zeros(len(self.users), bool)
        for kind, ids in (("user", self.users), ("item", self.items)):
            invalid = {raw for raw in set(ids) if not raw.strip() or (not self.exact and _ROUNDED.fullmatch(raw))}
            for row in (row for row, raw in enumerate(ids) if raw in invalid) if invalid else ():
                if not wrong[row]:
                    bad.add(self._no_id(row, kind, ids[row]))
                wrong[row] = True
        if self.order == "file":
            return np.flatnonzero(~wrong), None
        read = read_times(self.timestamps, in_seconds=self.in_seconds)
        timeless = np.flatnonzero(~np.isfinite(read.seconds) & ~wrong)
        for row in timeless[:EXAMPLES].tolist():
            bad.add(self._no_time(row, read.unit))
        bad.count += max(0, len(timeless) - EXAMPLES)
        wrong[timeless] = True
        times = read.seconds[~wrong]
        if len(times) > 1 and (times == times[0]).all():
            raise self._no_order(f"all {len(times)} timestamps are {self.timestamps[0]}")
        return np.flatnonzero(~wrong), read

    def _no_id(self, row: int, kind: str, raw: str) -> InputError:
        message, hint = f"empty {kind} id", "give every row one (NA, nan, null and \\N count as empty)"
        if raw.strip():
            message, hint = f"{kind} id {raw!r} is a rounded number", "write ids with all their digits, as text"
        return WrongLine(message, where=self._at(row, kind), hint=hint)

    def _no_time(self, row: int, unit: str) -> InputError:
        raw = self.timestamps[row]
        message = f"timestamp {truncate(repr(raw)) if isinstance(raw, str) else raw}"
        if unit == UNDECIDED:
            message, hint = f"{message} may begin with the day or with the month", "write dates as 2018-01-31"
        else:
            other = "" if unit == SECONDS else f", which most of the column has ({unit})"
            message = f"{message} is not a number of {SECONDS}, nor another time{other}"
            hint = "give each row a time between 1970 and 2100, all in one unit, or dates as 2018-01-31"
        return WrongLine(message, where=self._at(row, "timestamp"), hint=hint)

    def _no_order(self, message: str) -> InputError:
        location = f"{self.path} field {self.fields.get('timestamp', 'timestamp')!r}"
        hint = "give the true times, or say --order file where the order of lines is the order in time"
        return InputError(f"{message}: they state no order in time", where=location, hint=hint, code="no-time-order")

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
            places: list[int] = rows.tolist()
            ratings = np.array([number(self.ratings[row]) for row in places], np.float64)
        return ~(ratings >= minimum)

    def _at(self, row: int, kind: str) -> str:
        return f"{self.path} {self.unit} {self.lines[row]} field {self.fields.get(kind, kind)!r}"


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


def written_list(text: str) -> list[str]:
    """The ids or numbers of a list as JSON or Python writes it; none where it is no such list.

    >>> written_list("[12, 7]"), written_list("['a', 'b']"), written_list("no list")
    (['12', '7'], ['a', 'b'], [])
    """
    try:
        listed = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    if not isinstance(listed, list) or not all(isinstance(item, int | float | str) for item in listed):
        return []
    items = [str(item).strip() for item in listed]
    return items if all(items) else []


def numbered(ids: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct ids in order of first appearance, and the position of each given id among them."""
    places: dict[str, int] = {}
    rows = np.fromiter((places.setdefault(raw, len(places)) for raw in ids), dtype=np.int64, count=len(ids))
    return tuple(places), rows


def repeat_notes(dataset: Dataset) -> tuple[str, ...]:
    """A note on interactions that repeat a (user, item) pair; they are kept."""
    count = repeats(dataset)
    return (f"{count} interactions repeat an item of the same user; they are kept",) if count else ()

"""The interactions of a raw file as arrays (user, item, time, rating), in the order of lines.

Reads the three formats of releases (comma-separated, `::`-separated, a JSON object a line) and
checks each value: an id is present, a rating is a number, a timestamp lies within the release's range.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from math import isfinite

import numpy as np
import pyarrow as pa
from pyarrow import csv

from harness.core.json_files import REFETCH
from harness.data.download import Progress
from harness.data.raw.parsing import raw_id, record_of
from harness.data.raw.releases import Release
from harness.data.raw.streams import RawFileHandle
from harness.data.readers.times import LONGEST_NUMBER
from harness.data.reading import PLAIN, BadLines, Reading, WrongLine
from harness.errors import InputError, quote

DAY = 86_400.0
KINDS = ("user", "item", "rating", "time")
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True)
class RawLog:
    """Row `n` is the n-th line that is not blank: `users[user_codes[n]]`, `items[item_codes[n]]`, seconds since 1970
    (float64), and the rating. `left_out` is a note on lines that are wrong, if any."""

    users: list[str]
    items: list[str]
    user_codes: np.ndarray
    item_codes: np.ndarray
    times: np.ndarray
    ratings: np.ndarray
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.times)


def read_log(
    file_handle: RawFileHandle,
    release: Release,
    progress: Progress | None = None,
    reading: Reading = PLAIN,
) -> RawLog:
    """Every row of the file.

    Raises `InputError` with file, line and field for the first row that is wrong, where there are more of those than
    `reading` tolerates, and for a file of another release.
    """
    rules = Rules(file_handle, release)
    if file_handle.spec.format == "csv" and (log := _read_fast(file_handle, rules)) is not None:
        return log
    log = _read_slow(file_handle, rules, progress, reading)
    if not len(log):
        raise InputError("the file holds no interactions", where=file_handle.name, hint=REFETCH, code="empty-data")
    return log


@dataclass(frozen=True)
class Rules:
    """The values that are valid in this file, and the error for an invalid one."""

    found: RawFileHandle
    release: Release

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """The first and the last second that a timestamp may have."""
        first, last = (instant(text) for text in self.release.between)
        return first - DAY, last + 2 * DAY

    def rating(self, value: object, line: int) -> float:
        try:
            if isinstance(value, (str, int, float)) and not isinstance(value, bool) and isfinite(float(value)):
                return float(value)
        except (ValueError, OverflowError):
            pass
        raise self.wrong(f"rating {quote(value)} is not a number", line, "rating", "give a number")

    def time(self, value: object, line: int) -> float:
        """A whole number in the release's unit, or a date in its text form, as seconds since 1970."""
        seconds = self._seconds(value)
        if seconds is None:
            message = "it is missing" if value is None else f"timestamp {quote(value)} is no time"
            raise self.wrong(message, line, "time", "give seconds since 1970 as the release does")
        first, last = self.bounds
        if first <= seconds <= last:
            return seconds
        span = " to ".join(self.release.between)
        message = f"timestamp {quote(value)} lies outside the time of {self.release.title} ({span})"
        raise self.wrong(message, line, "time", "the file is damaged, or of another release")

    def _seconds(self, value: object) -> float | None:
        if isinstance(value, bool) or (isinstance(value, str) and len(value) > LONGEST_NUMBER):
            return None
        if isinstance(value, int) or (isinstance(value, str) and WHOLE.fullmatch(value)):
            return int(value) * self.found.spec.unit
        if isinstance(value, str):
            try:
                return instant(value)
            except ValueError:
                return None
        return float(value) if isinstance(value, float) and value.is_integer() else None

    def wrong(self, message: str, line: int, kind: str, hint: str) -> WrongLine:
        return WrongLine(message, where=self.found.at(line, self.found.spec.field_name(kind)), hint=hint)


def instant(text: str) -> float:
    """Seconds since 1970 of a date, with a time or without, read as UTC.

    >>> instant("1970-01-02"), instant("2019-12-31 00:00:00")
    (86400.0, 1577750400.0)
    """
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _read_fast(file_handle: RawFileHandle, rules: Rules) -> RawLog | None:
    """The complete CSV file, read by Arrow; None if anything in it is invalid, so that `_read_slow` reports it."""
    spec = file_handle.spec
    text = pa.dictionary(pa.int32(), pa.string())
    types = {"user": text, "item": text, "rating": pa.float64(), "time": pa.int64()}
    try:
        with file_handle.opened() as (content, _):
            header = content.readline()
            content.seek(0)
            table = csv.read_csv(
                pa.PythonFile(content, mode="r"),
                read_options=csv.ReadOptions(column_names=list(spec.columns), skip_rows=int(spec.header)),
                parse_options=csv.ParseOptions(quote_char=False),
                convert_options=csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
            )
    except (pa.ArrowException, OSError, EOFError, ValueError):
        return None
    if spec.header and header.decode("latin-1").strip().split(",") != [spec.fields[kind] for kind in spec.columns]:
        return None
    if not table.num_rows:
        return None
    table = table.unify_dictionaries().combine_chunks()
    users, items = (table.column(kind).chunk(0) for kind in ("user", "item"))
    raw_users, raw_items = users.dictionary.to_pylist(), items.dictionary.to_pylist()
    times = table.column("time").to_numpy() * spec.unit
    ratings = table.column("rating").to_numpy()
    first, last = rules.bounds
    sound = times.min() >= first and times.max() <= last and not np.isnan(ratings).any()
    if not sound or not all(raw.strip() for ids in (raw_users, raw_items) for raw in ids):
        return None
    codes = (column.indices.to_numpy().astype(np.int64) for column in (users, items))
    return RawLog(raw_users, raw_items, *codes, times=times, ratings=ratings)


def _read_slow(file_handle: RawFileHandle, rules: Rules, progress: Progress | None, reading: Reading) -> RawLog:
    """Line by line, with every check."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user_codes, item_codes, times, ratings = array("q"), array("q"), array("d"), array("d")
    names = [file_handle.spec.field_name(kind) for kind in KINDS]

    def read(line: int, content: bytes, first: bool) -> tuple[str, str, float, float] | None:
        if (record := record_of(file_handle, rules.release, line, content, first)) is None:
            return None
        user, item, rating, time = map(record.get, names)
        ids = raw_id(file_handle, line, user, "user"), raw_id(file_handle, line, item, "item")
        return *ids, rules.rating(rating, line), rules.time(time, line)

    bad = BadLines(file_handle.path.name, reading)
    for user, item, rating, time in file_handle.rows(read, bad, progress):
        user_codes.append(users.setdefault(user, len(users)))
        item_codes.append(items.setdefault(item, len(items)))
        ratings.append(rating)
        times.append(time)
    left_out = bad.settle(len(times) + bad.count)
    return RawLog(
        users=list(users),
        items=list(items),
        user_codes=np.array(user_codes, np.int64),
        item_codes=np.array(item_codes, np.int64),
        times=np.array(times),
        ratings=np.array(ratings),
        left_out=left_out,
    )

"""Parses times: the unit of a column is inferred from its range, and every value is converted to seconds.

Supported are seconds, milliseconds, microseconds and nanoseconds since 1970, .NET ticks and Windows file times, dates
as integers (YYYYMMDD, with hours, minutes and seconds or without), and dates as text: ISO 8601, also with slashes, and
the forms of `FORMATS`. UTC if a date has no time zone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

LONGEST_NUMBER = 64  # characters of a timestamp
LATEST = 4_102_444_800.0  # 2100-01-01: a time behind it was read in a wrong unit
EARLY = 10 * 365.25 * 86_400  # a whole column before 1980 is rather an order than times
SECONDS = "seconds since 1970"
SMALLEST = 0.02  # of the middle value: a smaller one of a column in milliseconds or less is of another unit
# the least size of the middle value, the unit's name, how many of it make a second, and seconds from its zero to 1970
UNITS = (
    (6.8e17, "nanoseconds since 1970", 1e9, 0.0),
    (6.2e17, ".NET ticks", 1e7, 62_135_596_800.0),
    (1.6e17, "nanoseconds since 1970", 1e9, 0.0),
    (1.165e17, "Windows file times", 1e7, 11_644_473_600.0),
    (1e17, "nanoseconds since 1970", 1e9, 0.0),
    (1e14, "microseconds since 1970", 1e6, 0.0),
    (1e11, "milliseconds since 1970", 1e3, 0.0),
    (0.0, SECONDS, 1.0, 0.0),
)
CALENDARS = {14: "YYYYMMDDhhmmss", 12: "YYYYMMDDhhmm", 10: "YYYYMMDDhh", 8: "YYYYMMDD"}  # by number of digits
FITTING = 0.99  # share of a column that must be valid dates before whole numbers are taken for dates
ISO = "dates as text"
UNDECIDED = "dates of which the day or the month may come first"
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_DAYS = (
    "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d.%m.%Y", "%Y.%m.%d", "%m %d, %Y", "%b %d, %Y", "%B %d, %Y",
    "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%Y-%m-%d", "%Y/%m/%d",
)  # fmt: skip
FORMATS = (
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %Y %H:%M:%S GMT%z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%d/%b/%Y:%H:%M:%S %z",
    *(day + clock for day in _DAYS for clock in _CLOCKS),
)
SAMPLE = 200  # values that select the formats to try on all
_COMMA = re.compile(r"\s*-?\d+,\d+\s*", re.ASCII)
_ZONE_NAME = re.compile(r"\s*\([^()]*\)$")  # of mails and of JavaScript, after the offset
_SLASHES = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})")


@dataclass(frozen=True, eq=False)
class Times:
    """`seconds` since 1970, float64, NaN where a value is no time in `unit`."""

    seconds: np.ndarray
    unit: str

    def warnings(self) -> tuple[str, ...]:
        """A warning of times at the zero of the clock among later ones, which stand for a missing time."""
        zeros = int((self.seconds == 0).sum())
        if not zeros or np.nanmedian(self.seconds) < EARLY:
            return ()
        return (f"{zeros:,} timestamps are 1970-01-01T00:00:00, which often stands for a missing time",)

    def notes(self) -> tuple[str, ...]:
        """Notes on a column that is not in seconds."""
        sound = self.seconds[np.isfinite(self.seconds)]
        if not len(sound):
            return ()
        span = f"from {day(sound.min())} to {day(sound.max())}"
        if self.unit not in (SECONDS, ISO):
            return (f"timestamps are read as {self.unit}: they reach {span}",)
        if sound.max() < EARLY:
            return (f"timestamps are read as {SECONDS}: they reach {span}, so they are rather an order than dates",)
        return ()


def read_times(values: Sequence[str] | np.ndarray, *, in_seconds: bool = False) -> Times:
    """Parses one column. `values` are text, or float64 with NaN for missing ones; with `in_seconds` they are seconds.

    The format and unit are those of most values; a value of another one, before 1970, after 2100, or not a time
    becomes NaN.
    """
    if in_seconds:
        numbers = np.asarray(values, np.float64)
        return Times(np.where(np.isfinite(numbers) & (numbers >= 0), numbers, np.nan), SECONDS)
    if isinstance(values, np.ndarray):
        return _of_numbers(values.astype(np.float64))
    try:
        return _of_numbers(_parsed(values))
    except ValueError:
        distinct = {raw: number(raw) for raw in set(values)}
        numbers = np.array([distinct[raw] for raw in values])
    dates = {raw: _date(raw) for raw, value in distinct.items() if value != value}
    positions = np.array([dates.get(raw, np.nan) for raw in values])
    if np.isfinite(positions).sum() > np.isfinite(numbers).sum():
        return Times(_within(positions), ISO)
    if not np.isfinite(numbers).any() and (formatted := _formatted(values, list(dates))) is not None:
        return formatted
    return _of_numbers(numbers)


def seconds_of(number: float) -> float:
    """One number of seconds, milliseconds, microseconds, or a date as a whole number, as seconds since 1970.

    >>> seconds_of(1628643414.0), seconds_of(1628643414042), seconds_of(20210811), seconds_of(20210811005654)
    (1628643414.0, 1628643414.042, 1628640000.0, 1628643414.0)
    """
    read = _of_numbers(np.array([number], np.float64)).seconds[0]
    return float(number) if np.isnan(read) else float(read)


def day(seconds: float) -> str:
    """The date of a time, UTC.

    >>> day(1628643414.042)
    '2021-08-11'
    """
    return str(np.datetime64(int(seconds), "s"))[:10]


def _of_numbers(values: np.ndarray) -> Times:
    usable = values[np.isfinite(values) & (values >= 0)]
    if not len(usable):
        return Times(np.full(len(values), np.nan), SECONDS)
    middle = float(np.partition(usable, len(usable) // 2)[len(usable) // 2])
    if (dated := _calendar(values, middle)) is not None:
        return dated
    _, unit, scale, offset = next(entry for entry in UNITS if middle >= entry[0])
    if unit != SECONDS:  # what is small there is of another unit
        values = np.where(values < SMALLEST * middle, np.nan, values)
    return Times(_within(values / scale - offset), unit)


def _formatted(values: Sequence[str], distinct: list[str]) -> Times | None:
    """Dates in the one of `FORMATS` that most values have; all NaN where two formats fit and differ."""
    sample = distinct[:SAMPLE]
    fitting = [form for form in FORMATS if any(not np.isnan(_in_format(raw, form)) for raw in sample)]
    columns = {}
    for form in fitting:
        times = {raw: _in_format(raw, form) for raw in distinct}
        columns[form] = np.array([times[raw] for raw in values])
    rows = {form: int(np.isfinite(column).sum()) for form, column in columns.items()}
    best = sorted(
        (form for form in fitting if rows[form] >= FITTING * max(rows.values())), key=lambda form: -rows[form]
    )
    if not best:
        return None
    times = columns[best[0]]
    if any(not np.array_equal(columns[form], times, equal_nan=True) for form in best[1:]):
        return Times(np.full(len(values), np.nan), UNDECIDED)
    return Times(_within(times), f"dates of the form {best[0]}")


def _in_format(raw: str, form: str) -> float:
    try:
        moment = datetime.strptime(_ZONE_NAME.sub("", raw.strip()), form)
    except ValueError:
        return np.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _calendar(values: np.ndarray, middle: float) -> Times | None:
    """Dates written as whole numbers; None if the column has another format."""
    digits = len(f"{middle:.0f}")
    sample = values[:: len(values) // SAMPLE + 1].tolist()
    if digits not in CALENDARS or np.isnan([_whole_date(value, digits) for value in sample]).all():
        return None
    distinct, places = np.unique(values, return_inverse=True)
    if digits == 8 and len(distinct) == 1 and len(values) > 1:
        return None  # a constant states no order, whatever it means
    seconds = np.array([_whole_date(value, digits) for value in distinct.tolist()])[places]
    if np.isfinite(seconds).mean() < FITTING:
        return None
    return Times(_within(seconds), f"dates of the form {CALENDARS[digits]}")


def _whole_date(value: float, digits: int) -> float:
    text = f"{value:.0f}"
    if not np.isfinite(value) or not value.is_integer() or len(text) != digits or not 1970 <= int(text[:4]) < 2100:
        return np.nan
    parts = (int(text[:4]), *(int(text[at : at + 2]) for at in range(4, digits, 2)))
    try:
        return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]
    except ValueError:
        return np.nan


def _within(seconds: np.ndarray) -> np.ndarray:
    """The times, NaN for those outside of 1970 to 2100."""
    with np.errstate(invalid="ignore"):
        return np.where((seconds >= 0) & (seconds < LATEST), seconds, np.nan)


def _parsed(texts: Sequence[str]) -> np.ndarray:
    """Converts texts to numbers. Raises `ValueError`, also for texts longer than a number: an array of text allocates
    the longest one's length for each."""
    if max(map(len, texts), default=0) > LONGEST_NUMBER:
        raise ValueError("too long for a number")
    return np.array(texts, dtype=np.str_).astype(np.float64)


def number(raw: str) -> float:
    """A text as a number, NaN where it is none. The decimal mark may be a comma, as half of Europe's tables have it.

    >>> number("4.5"), number("4,5"), number("1,600,000")
    (4.5, 4.5, nan)
    """
    try:
        return float(raw.replace(",", ".") if _COMMA.fullmatch(raw) else raw)
    except ValueError:
        return float("nan")


def _date(raw: str) -> float:
    text = raw.strip()
    if not 8 <= len(text) <= LONGEST_NUMBER:
        return np.nan
    if match := _SLASHES.match(text):
        year, month, date = match.groups()
        text = f"{year}-{month:0>2}-{date:0>2}{text[match.end() :]}"
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return np.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

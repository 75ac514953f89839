"""How files are read into a data set: `Reading` has the options (columns, filters, tolerated bad lines),
`matched` maps the columns of a file to canonical ones, `BadLines` counts invalid lines; errors that readers share.

Invalid lines are dropped, counted and reported up to a limit; more are an error.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from harness.errors import InputError, unknown_name

USER = "user"
ITEM = "item"
TIMESTAMP = "timestamp"
RANK = "rank"
SCORE = "score"

TITLE = "title"
DESCRIPTION = "description"
BRAND = "brand"
CATEGORIES = "categories"
TEXT_FIELDS = (TITLE, DESCRIPTION, BRAND, CATEGORIES)

RATING = "rating"
EXTRA_TEXT = ("features", "details")  # of Amazon 2023: lists and pairs of text that follow the description

# What a column of a user's table may be called, most telling first; case, blanks and punctuation do not count.
ALIASES: dict[str, tuple[str, ...]] = {
    USER: (
        USER, "user_id", "uid", "username", "reviewer_id", "customer", "customer_id", "visitor_id", "member_id",
        "account_id", "client_id", "session_id", "session",
    ),
    ITEM: (
        ITEM, "item_id", "iid", "parent_asin", "asin", "product", "product_id", "sku", "movie_id", "book_id",
        "business_id", "track_id", "song_id", "article_id", "news_id", "video_id", "game_id", "poi_id", "isbn",
        "items", "item_ids", "item_list", "item_id_list",
    ),
    TIMESTAMP: (
        TIMESTAMP, "time", "unix_timestamp", "unix_review_time", "event_time", "created_at", "datetime", "date", "ts",
        "t_dat", "timestamps",
    ),
    RATING: (RATING, "ratings", "overall", "stars", "score", "rate"),
    TITLE: (TITLE, "name", "item_name", "movie_title", "product_title", "product_name", "item_title", "prod_name"),
    DESCRIPTION: (DESCRIPTION, "desc", "text", "detail_desc", "abstract", "summary", "item_description"),
    BRAND: (BRAND, "store", "manufacturer", "brand_name"),
    CATEGORIES: (CATEGORIES, "category", "genres", "genre", "item_category", "class", "tags"),
}  # fmt: skip
BAD_LINES = 0.01  # maximal share of invalid lines, which are dropped
FEW = 3  # invalid lines allowed in a small file, up to a tenth of its lines
FORM = "write user=NAME,item=NAME,…, NAME being a column of the file, or its number where the file has no header"
EXAMPLES = 2
STOP_AT, STOP_SHARE = 1000, 10  # so many wrong lines, and so many times the tolerated share, end the reading at once
NOT_LETTERS = re.compile(r"[\W_]+")
TYPES = re.compile(r":(token|float)(_seq)?$")


def is_hidden(path: Path) -> bool:
    """Whether a file is none of the user's: macOS puts `._NAME` beside each file that it copies or zips."""
    return path.name.startswith(".")


@dataclass(frozen=True)
class Reading:
    """`columns`: pairs (canonical name, name in the file). `min_rating`: drop interactions with lower ratings. Users
    and items with fewer than `min_user` and `min_item` interactions are dropped iteratively. `bad_lines`: maximal share
    of invalid lines (0: none)."""

    columns: tuple[tuple[str, str], ...] = ()
    min_rating: float | None = None
    min_user: int = 0
    min_item: int = 0
    bad_lines: float = BAD_LINES

    def __post_init__(self) -> None:
        for name in ("min_user", "min_item"):
            if getattr(self, name) < 0:
                message = f"{getattr(self, name)} is no number of interactions"
                raise InputError(message, where=_option(name), code="bad-setting")
        if not 0 <= self.bad_lines < 1:
            message, hint = f"{self.bad_lines} is no share of lines", "give a share between 0 (none) and 1"
            raise InputError(message, where="--bad-lines", hint=hint, code="bad-setting")
        for canonical, _ in self.columns:
            if canonical not in ALIASES:
                raise unknown_name("column", canonical, ALIASES, where="--columns")

    @property
    def of_files(self) -> bool:
        """Whether an option applies to readers of files only."""
        return bool(self.columns) or self.min_rating is not None or self.bad_lines != BAD_LINES

    def column(self, canonical: str) -> str | None:
        """The file's name of a canonical column, None if not given."""
        return dict(self.columns).get(canonical)

    def only(self, columns: Container[str]) -> Reading:
        """The same without the names that one of several files does not have."""
        return replace(self, columns=tuple(pair for pair in self.columns if pair[1] in columns))

    def check_no_columns(self, location: Path) -> None:
        """Raises `InputError` where an option is for columns or ratings: the layout of this file has neither."""
        if self.columns or self.min_rating is not None:
            hint = f"leave {'--columns' if self.columns else '--min-rating'} out"
            message = "this layout has no columns and no ratings"
            raise InputError(message, where=str(location), hint=hint, code="conflicting-options")

    def tolerated(self, lines: int) -> int:
        """Number of invalid lines allowed."""
        return max(int(self.bad_lines * lines), min(FEW, lines // 10)) if self.bad_lines else 0

    def document(self) -> dict[str, Any]:
        """Values that differ from the defaults, JSON-able."""
        plain = Reading()
        message = {key: value for key, value in asdict(self).items() if value != getattr(plain, key)}
        return {**message, "columns": dict(self.columns)} if self.columns else message

    def options(self) -> list[str]:
        """The same as command-line words."""
        message = self.document()
        if self.columns:
            message["columns"] = ",".join(f"{canonical}={column}" for canonical, column in self.columns)
        return [word for key, value in message.items() for word in (_option(key), str(value))]

    @classmethod
    def of(cls, document: Mapping[str, Any] | None, location: str = "data") -> Reading:
        """From `document`, or from a configuration file. Raises `InputError`."""
        message = dict(document or {})
        names = [field.name for field in fields(cls)] + ["core"]
        for key in message:
            if key not in names:
                raise unknown_name("setting", key, names, where=location)
        columns = message.pop("columns", None)
        if isinstance(columns, str):
            message["columns"] = parse_columns(columns)
        elif isinstance(columns, Mapping):
            message["columns"] = tuple((str(canonical), str(column)) for canonical, column in columns.items())
        elif columns is not None:
            raise InputError(f"columns is {columns!r}", where=location, hint=FORM, code="bad-setting")
        message = {key: value for key, value in message.items() if value is not None}  # null: the default
        for key in message.keys() - {"columns"}:
            kind = (int, float) if key in ("min_rating", "bad_lines") else int
            if not isinstance(message[key], kind) or isinstance(message[key], bool):
                name = "whole number" if kind is int else "number"
                raise InputError(f"{key} is {message[key]!r}, expected a {name}", where=location, code="bad-setting")
        core = message.pop("core", None)
        return cls(**({} if core is None else {"min_user": core, "min_item": core}) | message)


def parse_columns(text: str) -> tuple[tuple[str, str], ...]:
    """Parses `--columns`. The name of a column may have commas.

    >>> parse_columns("user=customer, item=sku, title=Name, short")
    (('user', 'customer'), ('item', 'sku'), ('title', 'Name, short'))
    """
    pairs = [part.partition("=") for part in re.split(r",(?=[^,=]*=)", text.rstrip(", "))]
    if not pairs or not all(equals and canonical.strip() and column.strip() for canonical, equals, column in pairs):
        raise InputError(f"{text!r} names no columns", where="--columns", hint=FORM, code="missing-column")
    results = tuple((canonical.strip(), column.strip()) for canonical, _, column in pairs)
    if len({canonical for canonical, _ in results}) < len(results):
        raise InputError(f"{text!r} names a column twice", where="--columns", hint=FORM, code="duplicate")
    return results


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


PLAIN = Reading()


class WrongLine(InputError):
    """An error of one line of a file; other lines may be valid."""

    code = "bad-line"


def no_rows(path: Path) -> InputError:
    """The error for a table without rows."""
    return InputError("no rows", where=str(path), hint="write the data to it again", code="empty-data")


def twice(column: str, location: str) -> InputError:
    """The error for two columns of one name."""
    return InputError(f"column {column!r} stands twice", where=location, hint="keep one of the two", code="duplicate")


def lacking(
    missing: Sequence[str],
    columns: Iterable[str],
    location: str,
    hint: str,
    otherwise: str = "",
    subject: str = "the header",
) -> InputError:
    """The error for columns that `subject` does not have. The hint, then the columns that it has, then `otherwise`."""
    hint = f"{hint} (it has {','.join(columns)}){otherwise}"
    if [name.partition(":")[0] for name in missing] == [TIMESTAMP]:
        hint += "; or say --order file where the order of rows is the order in time"
    return InputError(f"{subject} lacks {', '.join(missing)}", where=location, hint=hint, code="missing-column")


@dataclass
class BadLines:
    """The wrong lines of one file. `name` is how notes call the file."""

    name: str
    reading: Reading = field(default_factory=Reading)
    count: int = 0
    _first: list[InputError] = field(default_factory=list)

    def add(self, error: InputError, lines: int = 0) -> None:
        """Takes down a wrong line, `lines` having been read so far (0: not known). Raises the error itself where no
        line may be wrong, or where far too many are."""
        self.count += 1
        if len(self._first) < EXAMPLES:
            self._first.append(error)
        share = self.reading.bad_lines
        if not share or (self.count >= STOP_AT and lines and self.count > STOP_SHARE * share * lines):
            self.settle(lines or self.count)

    def join(self, other: BadLines) -> None:
        """Takes over the wrong lines of another file of the same data set."""
        self._first = (self._first + other._first)[:EXAMPLES]
        self.count += other.count

    def settle(self, lines: int) -> tuple[str, ...]:
        """A note on what was left out of `lines` lines; none where nothing was. Raises `InputError`, that of the first
        wrong line, where it is more than may be."""
        if not self.count:
            return ()
        first = self._first[0]
        if self.count > self.reading.tolerated(lines):
            message, hint = first.what, first.hint
            if self.count > 1 or self.reading.bad_lines:
                message += f" ({self.count:,} of {lines:,} lines are wrong, {self.reading.tolerated(lines):,} may be)"
            if lines not in (0, self.count) and self.reading.bad_lines:
                share = min(0.99, -(-100 * self.count // lines) / 100)
                hint = f"{f'{hint}; ' if hint else ''}or leave such lines out with --bad-lines {share:g}"
            raise InputError(message, where=first.where, hint=hint, code=first.code)
        text = "; ".join(f"{error.where}: {error.what}" for error in self._first)
        value = ", …" if self.count > len(self._first) else ""
        return (f"{self.name}: {self.count:,} of {lines:,} lines are wrong and left out ({text}{value})",)


@dataclass(frozen=True)
class Matched:
    """`places` maps canonical names to the file's; `extra` are columns that are appended to an item's description
    (`EXTRA_TEXT`), `unused` the file's other columns."""

    places: Mapping[str, str]
    unused: tuple[str, ...]
    extra: tuple[str, ...] = ()

    def notes(self, file: str) -> tuple[str, ...]:
        """At most one line each: columns with another name, columns of the description, columns that are not used."""
        other = [f"{canonical}={theirs}" for canonical, theirs in self.places.items() if canonical != theirs]
        notes = (f"{file}: columns read as {', '.join(other)}",) if other else ()
        if self.extra:
            notes = (*notes, f"{file}: columns read as part of the description: {_listed(self.extra)}")
        return (*notes, f"{file}: columns not used: {_listed(self.unused)}") if self.unused else notes


def _listed(names: Sequence[str]) -> str:
    """Names of columns for a message; those with commas are quoted."""
    return ", ".join(f"'{name}'" if "," in name else name for name in names)


def normalized(name: str) -> str:
    """A column's name without case, blanks, punctuation, and RecBole's type.

    >>> normalized("User ID") == normalized("user_id") == normalized("userId") == normalized("user_id:token")
    True
    """
    return NOT_LETTERS.sub("", TYPES.sub("", name.lower()))


def matched(
    columns: Sequence[str],
    required: tuple[str, ...],
    optional: tuple[str, ...],
    reading: Reading,
    location: str,
    subject: str = "the header",
) -> Matched:
    """Finds the canonical columns that are present. Raises `InputError` where one of `required` is missing (`subject`
    is what lacks it), and for a name that `--columns` gives and the file does not have."""
    expected = (*required, *optional)
    places: dict[str, str] = {}
    for canonical in expected:
        if (given := reading.column(canonical)) is not None:
            if given not in columns:
                message = f"there is no column {given!r}, which --columns gives for {canonical}"
                raise InputError(message, where=location, hint=f"it has {', '.join(columns)}", code="missing-column")
            places[canonical] = given
    for canonical in expected:
        free = [name for name in columns if name not in places.values()]
        if canonical in places or not free:
            continue
        by_plain = {normalized(name): name for name in reversed(free)}
        aliases = map(normalized, ALIASES[canonical])
        name = canonical if canonical in free else next((by_plain[key] for key in aliases if key in by_plain), None)
        if name is not None:
            places[canonical] = name
    unused = [name for name in columns if name not in places.values()]
    extra = [name for name in unused if DESCRIPTION in expected and normalized(name) in EXTRA_TEXT]
    places = {canonical: places[canonical] for canonical in expected if canonical in places}
    if missing := [column for column in required if column not in places]:
        hint = f"name the columns {','.join(required)}"
        raise lacking(missing, columns, location, hint, f", or say --columns: {FORM}", subject)
    return Matched(places, tuple(name for name in unused if name not in extra), tuple(extra))

"""`Reading`: options of reading files into a data set: columns, filters, tolerated bad lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from harness.data.columns import ALIASES
from harness.errors import InputError, unknown_name

BAD_LINES = 0.01  # maximal share of invalid lines, which are dropped
FEW = 3  # invalid lines allowed in a small file, up to a tenth of its lines
FORM = "write user=NAME,item=NAME,…, NAME being a column of the file, or its number where the file has no header"


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
                raise InputError(
                    f"{getattr(self, name)} is no number of interactions", where=_option(name), code="bad-setting"
                )
        if not 0 <= self.bad_lines < 1:
            hint = "give a share between 0 (none) and 1"
            raise InputError(
                f"{self.bad_lines} is no share of lines", where="--bad-lines", hint=hint, code="bad-setting"
            )
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
        core, columns = message.pop("core", None), message.pop("columns", None)
        if isinstance(core, int):
            message = {"min_user": core, "min_item": core, **message}
        if isinstance(columns, str):
            message["columns"] = parse_columns(columns)
        elif columns:
            message["columns"] = tuple((str(canonical), str(column)) for canonical, column in dict(columns).items())
        for key in ("min_rating", "min_user", "min_item", "bad_lines"):
            kind = int if key in ("min_user", "min_item") else (int, float)
            if message.get(key) is not None and (not isinstance(message[key], kind) or isinstance(message[key], bool)):
                raise InputError(f"{key} is {message[key]!r}, expected a number", where=location, code="bad-setting")
        return cls(**message)


def parse_columns(text: str) -> tuple[tuple[str, str], ...]:
    """Parses `--columns`.

    >>> parse_columns("user=customer, item=sku")
    (('user', 'customer'), ('item', 'sku'))
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not pairs or not all(equals and canonical.strip() and column.strip() for canonical, equals, column in pairs):
        raise InputError(f"{text!r} names no columns", where="--columns", hint=FORM, code="missing-column")
    results = tuple((canonical.strip(), column.strip()) for canonical, _, column in pairs)
    if len({canonical for canonical, _ in results}) < len(results):
        raise InputError(f"{text!r} names a column twice", where="--columns", hint=FORM, code="duplicate")
    return results


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


PLAIN = Reading()

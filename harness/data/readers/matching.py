"""Which column of a stranger's table is which of ours: as the user says, by its own name, or by a known alias."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.data.columns import ALIASES
from harness.data.reading import Reading
from harness.errors import InputError

NOT_LETTERS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Matched:
    """`places` maps our names to the file's; `unused` are the file's other columns."""

    places: Mapping[str, str]
    unused: tuple[str, ...]

    def notes(self, file: str) -> tuple[str, ...]:
        """Which columns are taken under another name than ours, and which are not used: one line each, at most."""
        other = [f"{own_value}={theirs}" for own_value, theirs in self.places.items() if own_value != theirs]
        notes = (f"{file}: columns read as {', '.join(other)}",) if other else ()
        return (*notes, f"{file}: columns not used: {', '.join(self.unused)}") if self.unused else notes


def plain(name: str) -> str:
    """A column's name without case, blanks and punctuation.

    >>> to_jsonable("User ID") == to_jsonable("user_id") == to_jsonable("userId")
    True
    """
    return NOT_LETTERS.sub("", name.lower())


def matched(columns: Sequence[str], expected: Sequence[str], reading: Reading, location: str) -> Matched:
    """Finds those of our columns `expected` that are there. Raises `InputError` for a name that `--columns` gives and
    the file does not have."""
    entries: dict[str, str] = {}
    for own_value in expected:
        if (message := reading.column(own_value)) is not None:
            if message not in columns:
                label = f"there is no column {message!r}, which --columns gives for {own_value}"
                raise InputError(label, where=location, hint=f"it has {', '.join(columns)}", code="missing-column")
            entries[own_value] = message
    for own_value in expected:
        free = [name for name in columns if name not in entries.values()]
        if own_value in entries or not free:
            continue
        if own_value in free:
            entries[own_value] = own_value
            continue
        by_plain: dict[str, str] = {}
        for name in free:
            by_plain.setdefault(plain(name), name)
        alias = next((by_plain[key] for key in map(plain, ALIASES[own_value]) if key in by_plain), None)
        if alias is not None:
            entries[own_value] = alias
    names = set(entries.values())
    return Matched(
        {own_value: entries[own_value] for own_value in expected if own_value in entries},
        tuple(c for c in columns if c not in names),
    )

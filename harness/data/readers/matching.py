"""Maps the columns of a file to canonical columns: by `--columns`, by the same name, or by a known alias."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.data.columns import ALIASES, DESCRIPTION, EXTRA_TEXT
from harness.data.reading import Reading
from harness.errors import InputError

NOT_LETTERS = re.compile(r"[\W_]+")
TYPES = re.compile(r":(token|float)(_seq)?$")


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
            notes = (*notes, f"{file}: columns read as part of the description: {', '.join(self.extra)}")
        return (*notes, f"{file}: columns not used: {', '.join(self.unused)}") if self.unused else notes


def normalized(name: str) -> str:
    """A column's name without case, blanks, punctuation, and RecBole's type.

    >>> normalized("User ID") == normalized("user_id") == normalized("userId") == normalized("user_id:token")
    True
    """
    return NOT_LETTERS.sub("", TYPES.sub("", name.lower()))


def matched(columns: Sequence[str], expected: Sequence[str], reading: Reading, location: str) -> Matched:
    """Finds the canonical columns `expected` that are present. Raises `InputError` for a name that `--columns` gives
    and the file does not have."""
    entries: dict[str, str] = {}
    for canonical in expected:
        if (message := reading.column(canonical)) is not None:
            if message not in columns:
                label = f"there is no column {message!r}, which --columns gives for {canonical}"
                raise InputError(label, where=location, hint=f"it has {', '.join(columns)}", code="missing-column")
            entries[canonical] = message
    for canonical in expected:
        free = [name for name in columns if name not in entries.values()]
        if canonical in entries or not free:
            continue
        if canonical in free:
            entries[canonical] = canonical
            continue
        by_plain: dict[str, str] = {}
        for name in free:
            by_plain.setdefault(normalized(name), name)
        alias = next((by_plain[key] for key in map(normalized, ALIASES[canonical]) if key in by_plain), None)
        if alias is not None:
            entries[canonical] = alias
    unused = [name for name in columns if name not in entries.values()]
    extra = [name for name in unused if DESCRIPTION in expected and normalized(name) in EXTRA_TEXT]
    places = {canonical: entries[canonical] for canonical in expected if canonical in entries}
    return Matched(places, tuple(name for name in unused if name not in extra), tuple(extra))

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
        other = [f"{ours}={theirs}" for ours, theirs in self.places.items() if ours != theirs]
        notes = (f"{file}: columns read as {', '.join(other)}",) if other else ()
        return (*notes, f"{file}: columns not used: {', '.join(self.unused)}") if self.unused else notes


def plain(name: str) -> str:
    """A column's name without case, blanks and punctuation.

    >>> to_jsonable("User ID") == to_jsonable("user_id") == to_jsonable("userId")
    True
    """
    return NOT_LETTERS.sub("", name.lower())


def matched(columns: Sequence[str], wanted: Sequence[str], reading: Reading, where: str) -> Matched:
    """Finds those of our columns `wanted` that are there. Raises `InputError` for a name that `--columns` gives and the
    file does not have."""
    found: dict[str, str] = {}
    for ours in wanted:
        if (said := reading.column(ours)) is not None:
            if said not in columns:
                what = f"there is no column {said!r}, which --columns gives for {ours}"
                raise InputError(what, where=where, hint=f"it has {', '.join(columns)}")
            found[ours] = said
    for ours in wanted:
        free = [name for name in columns if name not in found.values()]
        if ours in found or not free:
            continue
        if ours in free:
            found[ours] = ours
            continue
        by_plain: dict[str, str] = {}
        for name in free:
            by_plain.setdefault(plain(name), name)
        alias = next((by_plain[key] for key in map(plain, ALIASES[ours]) if key in by_plain), None)
        if alias is not None:
            found[ours] = alias
    taken = set(found.values())
    return Matched({ours: found[ours] for ours in wanted if ours in found}, tuple(c for c in columns if c not in taken))

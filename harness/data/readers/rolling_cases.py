"""Joins rows of (user, history, next item) to one sequence a user, and checks that the histories follow one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.data.readers.bad_lines import BadLines
from harness.errors import InputError


class Case(NamedTuple):
    """A row of a file: `history`, oldest first and perhaps truncated to its latest items, and the item that follows.
    `location` is for messages."""

    user: str
    history: list[str]
    item: str
    line: int
    location: str


@dataclass
class Joined:
    """Interactions, user by user, in order. `numbers[n]`: the case, from 1, that has interaction `n` as its item; for
    an item that only a history names, a number in the half before that case. `given`: how many such items there are.
    `repeated`: cases that are part of what earlier ones of their user said. `window`: the longest history."""

    users: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    given: int = 0
    repeated: int = 0
    window: int = 0


def joined(cases: Sequence[Case], bad: BadLines) -> Joined:
    """The sequences of all users. A history must be the latest items of the sequence so far (all of them, or as many as
    the longest history of `cases` has), or continue it; a row that does not is a wrong line."""
    result = Joined(window=max((len(case.history) for case in cases), default=0))
    sequences: dict[str, list[tuple[str, int, float]]] = {}
    for number, case in enumerate(cases, start=1):
        rows = sequences.setdefault(case.user, [])
        known = min(len(rows), result.window)
        if known and case.history == [item for item, _, _ in rows[-known:]]:
            rows.append((case.item, case.line, number))
        elif len(case.history) >= len(rows) and case.history[: len(rows)] == [item for item, _, _ in rows]:
            added = case.history[len(rows) :]
            result.given += len(added)
            numbers = [number - 0.5 + 0.5 * place / len(added) for place in range(len(added))]
            rows += zip([*added, case.item], [case.line] * (len(added) + 1), [*numbers, number], strict=True)
        elif _contains([item for item, _, _ in rows], [*case.history, case.item]):
            result.repeated += 1
        else:
            message = f"the history of user {case.user!r} does not follow from the rows of that user before it"
            hint = "give the rows of a user in order, each with its latest items"
            bad.add(InputError(message, where=case.location, hint=hint, code="bad-line"), number)
    for user, rows in sequences.items():
        result.users += [user] * len(rows)
        for part, values in zip((result.items, result.lines, result.numbers), zip(*rows, strict=True), strict=False):
            part.extend(values)
    return result


def _contains(sequence: list[str], part: list[str]) -> bool:
    return any(sequence[n : n + len(part)] == part for n in range(len(sequence) - len(part) + 1))

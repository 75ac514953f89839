"""Reader of headerless text files separated by blanks: sequences (OpenP5, GRAM: one user a line, the user first, then
items in order) and pairs (SASRec: `user item` a line, in order).

There are no timestamps; the order is that of the items on a line, or of the lines.

Joins rows of (user, history, next item) to one sequence a user, and checks that the histories follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from harness.core.json_files import open_text, read_text
from harness.data.dataset import Dataset, Order
from harness.data.names import is_hidden
from harness.data.readers.interactions import Log
from harness.data.reading import ITEM, PLAIN, USER, BadLines, Reading, matched
from harness.errors import InputError

NAMES = ("user_sequence", "user_sequences", "sequential_data", "sequence", "sequences")
ENDINGS = (".txt", ".txt.gz")
RULE = "order within a user: as the file lists it"


def files(folder: Path) -> list[str]:
    """Names, without endings, of files that may have this layout: a known name, else the folder's only text file."""
    paths = (path for ending in ENDINGS for path in folder.glob(f"*{ending}"))
    texts = [path.name for path in paths if path.is_file() and not is_hidden(path)]
    names = [name for name in texts if name.partition(".")[0] in NAMES]
    candidates = names or [name for name in texts if _of_numbers_or_ids(folder / name)]
    return sorted({name.partition(".txt")[0] for name in candidates})


def read(folder: Path, name: str, order: Order = "file", reading: Reading | None = None) -> Dataset:
    """The file of that name in a folder; see `read_file`. The data set has the folder's name."""
    path = next(path for ending in ENDINGS if (path := folder / f"{name}{ending}").is_file())
    return read_file(path, folder.resolve().name, order, reading)


def read_file(path: Path, name: str, order: Order = "file", reading: Reading | None = None) -> Dataset:
    """Users and items in order of first appearance. `order` changes nothing.

    Where every line has exactly two words they are pairs, else each line is a user's whole sequence. Raises
    `InputError` for a user with two lines of sequences.
    """
    reading = reading or Reading()
    if reading.columns or reading.min_rating is not None:
        raise InputError(
            "this layout has no columns and no ratings",
            where=str(path),
            hint="leave the option out",
            code="conflicting-options",
        )
    bad = BadLines(path.name, reading)
    rows: list[tuple[int, list[str]]] = []
    with open_text(path, "\n") as file:
        for number, line in enumerate(file, start=1):
            if len(words := _words(line)) > 1:
                rows.append((number, words))
            elif words:
                message = "a user without items, where a line has a user and items, parted by blanks"
                bad.add(
                    InputError(message, where=f"{path} line {number}", hint="write USER ITEM ITEM …", code="bad-line"),
                    number,
                )
    if not rows and not bad.count:
        read_text(path)  # which says so where the file is empty
    header = (
        rows[:1] if rows and {USER, ITEM} <= matched(rows[0][1], (USER, ITEM), PLAIN, str(path)).places.keys() else []
    )
    rows = rows[len(header) :]
    pairs = all(len(words) == 2 for _, words in rows)
    history: dict[str, int] = {}
    users, items, lines = [], [], []
    for number, (user, *listed) in rows:
        if not pairs and user in history:
            message = f"user {user!r} has a line already (line {history[user]})"
            raise InputError(
                message,
                where=f"{path} line {number}",
                hint="give a user one line, or pairs USER ITEM; for a table say --columns user=1,item=2,timestamp=4",
                code="duplicate",
            )
        history[user] = number
        users += [user] * len(listed)
        items += listed
        lines += [number] * len(listed)
    log = Log(path, users, items, [], lines, "file", reading=reading, bad=bad)
    kind = "pairs of user and item" if pairs else "sequences, a line a user"
    dataset = log.dataset(name, None, f"{kind}, {path.name}")
    notes = (f"the first line is read as a header: {' '.join(header[0][1])}",) if header else ()
    return replace(dataset, notes=(RULE, *notes, *dataset.notes[1:]))


def _words(line: str) -> list[str]:
    """The user and the items of a line.

    >>> _words("u1 a b"), _words("u1: a, b"), _words("u1\\ta,b")
    (['u1', 'a', 'b'], ['u1', 'a', 'b'], ['u1', 'a', 'b'])
    """
    user, *items = line.split() or [""]
    words = [user.removesuffix(":").removesuffix(","), *(item for word in items for item in word.split(","))]
    return [word for word in words if word]


def _of_numbers_or_ids(path: Path) -> bool:
    """Whether the first lines look like ids: at least two words, none with punctuation of prose or tables."""
    with open_text(path, "\n") as file:
        lines = [line.split() for line, _ in zip(file, range(20), strict=False) if line.strip()]
    return (
        bool(lines)
        and all(len(words) > 1 and words[0].isalnum() for words in lines)
        and all(not set(word) & set(".,;:!?()\"'=") for words in lines for word in words)
    )


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

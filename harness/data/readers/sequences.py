"""Readers of files that list a user's items in order and have no timestamps.

Headerless text files separated by blanks: sequences (OpenP5, GRAM: one user a line, the user first, then items in
order) and pairs (SASRec: `user item` a line, in order).

MiniOneRec's layout: `train/NAME.csv`, `valid/NAME.csv` and `test/NAME.csv`, one case a row, with the last items before
it (`history_item_id`) and its target (`item_id`); optionally `index/CATEGORY.item.json` and `CATEGORY.index.json`.
Its rows are in order of time, so the number of a row (train, valid, test one after the other) is the timestamp of its
target, and `rolling-time` makes the same cases of them again. Dates, and which interactions have equal times, are not
in the files.

`joined` makes one sequence a user of rows (user, history, next item), and checks that the histories follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.core.json_files import open_text, read_text
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.readers import lcrec
from harness.data.readers.interactions import Log, written_list
from harness.data.readers.table_files import PARTS, TableFile, read_table
from harness.data.reading import ITEM, PLAIN, USER, BadLines, Reading, WrongLine, is_hidden, lacking, matched
from harness.errors import InputError

NAMES = ("user_sequence", "user_sequences", "sequential_data", "sequence", "sequences")
ENDINGS = (".txt", ".txt.gz")
RULE = "order within a user: as the file lists it"
MINIONEREC_ENDING = ".csv"
SHARES = (0.8, 0.9)  # where rolling-time cuts by default
USER_FIELD, HISTORY_FIELD, ITEM_FIELD, TITLE_FIELD = "user_id", "history_item_id", "item_id", "item_title"
MINIONEREC_RULE = (
    "order within a user: by row, the train, valid and test file one after the other; timestamps are the numbers of "
    "the rows, because the files have no times, and equal times cannot be seen"
)


def files(folder: Path) -> list[str]:
    """Names, without endings, of files that may have this layout: a known name, else the folder's only text file."""
    paths = (path for ending in ENDINGS for path in folder.glob(f"*{ending}"))
    texts = [path.name for path in paths if path.is_file() and not is_hidden(path)]
    names = [name for name in texts if name.partition(".")[0] in NAMES]
    candidates = names or [name for name in texts if _of_numbers_or_ids(folder / name)]
    return sorted({name.partition(".txt")[0] for name in candidates})


def read(folder: Path, name: str, order: Order = "file", reading: Reading = PLAIN) -> Dataset:
    """The file of that name in a folder; see `read_file`. The data set has the folder's name."""
    path = next(path for ending in ENDINGS if (path := folder / f"{name}{ending}").is_file())
    return read_file(path, folder.resolve().name, order, reading)


def read_file(path: Path, name: str, order: Order = "file", reading: Reading = PLAIN) -> Dataset:
    """Users and items in order of first appearance. `order` changes nothing.

    Where every line has exactly two words they are pairs, else each line is a user's whole sequence. Raises
    `InputError` for a user with two lines of sequences.
    """
    reading.check_no_columns(path)
    bad = BadLines(path.name, reading)
    rows: list[tuple[int, list[str]]] = []
    with open_text(path, "\n") as file:
        for number, line in enumerate(file, start=1):
            if len(words := _words(line)) > 1:
                rows.append((number, words))
            elif words:
                message = "a user without items, where a line has a user and items, parted by blanks"
                bad.add(WrongLine(message, where=f"{path} line {number}", hint="write USER ITEM ITEM …"), number)
    if not rows and not bad.count:
        read_text(path)  # which says so where the file is empty
    notes: tuple[str, ...] = ()
    if rows and len(matched(rows[0][1], (), (USER, ITEM), PLAIN, str(path)).places) == 2:
        notes = (f"the first line is read as a header: {' '.join(rows[0][1])}",)
        del rows[0]
    pairs = all(len(words) == 2 for _, words in rows)
    history: dict[str, int] = {}
    users, items, lines = [], [], []
    for number, (user, *listed) in rows:
        if not pairs and user in history:
            message = f"user {user!r} has a line already (line {history[user]})"
            hint = "give a user one line, or pairs USER ITEM; for a table say --columns user=1,item=2,timestamp=4"
            raise InputError(message, where=f"{path} line {number}", hint=hint, code="duplicate")
        history[user] = number
        users += [user] * len(listed)
        items += listed
        lines += [number] * len(listed)
    log = Log(path, users, items, [], lines, "file", reading=reading, bad=bad)
    kind = "pairs of user and item" if pairs else "sequences, a line a user"
    dataset = log.dataset(name, None, f"{kind}, {path.name}")
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
        n_known = min(len(rows), result.window)
        if n_known and case.history == [item for item, _, _ in rows[-n_known:]]:
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
            bad.add(WrongLine(message, where=case.location, hint=hint), number)
    for user, rows in sequences.items():
        result.users += [user] * len(rows)
        for part, values in zip((result.items, result.lines, result.numbers), zip(*rows, strict=True), strict=False):
            part.extend(values)
    return result


def _contains(sequence: list[str], part: list[str]) -> bool:
    return any(sequence[n : n + len(part)] == part for n in range(len(sequence) - len(part) + 1))


def minionerec_names(folder: Path) -> list[str]:
    """The `NAME`s of which all three files exist."""
    stems = (
        path.name.removesuffix(MINIONEREC_ENDING)
        for path in (folder / PARTS[0]).glob(f"?*{MINIONEREC_ENDING}")
        if not is_hidden(path)
    )
    return sorted(name for name in stems if all(path.is_file() for path in _case_paths(folder, name)))


def minionerec_name(path: Path) -> str | None:
    """The `NAME` of which this is one of the three files, None for another file."""
    name = path.name.removesuffix(MINIONEREC_ENDING)
    return name if path.parent.name in PARTS and name in minionerec_names(path.parent.parent) else None


def read_minionerec(folder: Path, name: str, order: Order = "time", reading: Reading = PLAIN) -> Dataset:
    """Users in order of first appearance. The sequence of a user is the history of the first row and the targets of
    all rows; the history of every other row is checked against it. With the order `file` there are no timestamps."""
    reading.check_no_columns(folder)
    paths = _case_paths(folder, name)
    files = [read_table(path, reading) for path in paths]
    bad = BadLines(f"{name}{MINIONEREC_ENDING}", reading)
    for file in files:
        bad.join(file.bad)
    parts = [_cases(file, bad) for file in files]
    rows = joined([case for part in parts for case in part], bad)
    texts, item_file = _case_texts(folder, name, files)
    times = np.array(rows.numbers, np.float64) if order == "time" else []
    log = Log(
        path=folder / "*" / f"{name}{MINIONEREC_ENDING}",
        users=rows.users,
        items=rows.items,
        timestamps=times,
        lines=rows.lines,
        order=order,
        reading=reading,
        bad=bad,
        item_file=item_file,
        in_seconds=True,
    )
    dataset = log.dataset(name, texts, f"MiniOneRec layout, {name}")
    counts = [len(part) for part in parts]
    warnings = _case_warnings(rows, counts, len(dataset.users))
    category = _category(folder, name, lcrec.INDEX)
    return replace(
        dataset,
        notes=(MINIONEREC_RULE, *_case_notes(rows, counts, len(dataset.users)), *dataset.notes[1:], *warnings),
        warnings=(*dataset.warnings, *warnings),
        index_file=lcrec.index_beside(folder / "index", category) if category else None,
    )


def _case_paths(folder: Path, name: str) -> list[Path]:
    return [folder / part / f"{name}{MINIONEREC_ENDING}" for part in PARTS]


def _cases(file: TableFile, bad: BadLines) -> list[Case]:
    required = (USER_FIELD, HISTORY_FIELD, ITEM_FIELD)
    if missing := [column for column in required if column not in file.columns]:
        hint = f"MiniOneRec's files begin with {USER_FIELD}, {HISTORY_FIELD} and {ITEM_FIELD}"
        raise lacking(missing, file.columns, f"{file.path} line 1", hint)
    cases = []
    rows = zip(*map(file.column, required), file.lines, strict=True)
    for number, (user, history, item, line) in enumerate(rows, start=1):
        location = f"{file.path} line {line}"
        listed = written_list(history)
        if listed and user.strip() and item.strip():
            cases.append(Case(user.strip(), listed, item.strip(), line, location))
        else:
            message = f"a row needs {USER_FIELD}, {HISTORY_FIELD} and {ITEM_FIELD}"
            hint = f"write {HISTORY_FIELD} as [12, 7, 3], not empty"
            bad.add(WrongLine(message, where=location, hint=hint), number)
    return cases


def _case_texts(folder: Path, name: str, files: list[TableFile]) -> tuple[dict[str, ItemText] | None, ItemFile | None]:
    """Text from the item file, else the titles of the targets."""
    category = _category(folder, name, lcrec.ITEMS)
    if category is not None:
        path = folder / "index" / f"{category}{lcrec.ITEMS}"
        texts = lcrec.read_texts(path)
        return texts, ItemFile(path, tuple(texts))
    if any(TITLE_FIELD not in file.columns for file in files):
        return None, None
    titles = {
        item.strip(): ItemText(title=title.strip())
        for file in files
        for item, title in zip(file.column(ITEM_FIELD), file.column(TITLE_FIELD), strict=True)
    }
    return titles, None


def _category(folder: Path, name: str, ending: str) -> str | None:
    """The longest stem of a file of `index/` with which `name` begins (`NAME` is a category and its dates)."""
    stems = [path.name.removesuffix(ending) for path in (folder / "index").glob(f"?*{ending}")]
    return max((stem for stem in stems if name.startswith(stem)), key=len, default=None)


def _case_notes(rows: Joined, counts: list[int], users: int) -> tuple[str, ...]:
    listed = ", ".join(f"{count:,}" for count in counts)
    return (
        f"train, valid and test have {listed} cases; {rows.given:,} items of {users:,} users are known from the "
        "history of their first row alone, every other history follows from the rows before it",
        f"histories reach back {rows.window} items: --set protocol.max_history={rows.window} gives the same ones",
    )


def _case_warnings(rows: Joined, counts: list[int], users: int) -> tuple[str, ...]:
    """What keeps rolling-time from making the same cases by default."""
    begins = [counts[0], counts[0] + counts[1]]
    warnings = []
    cases = len(rows.items) - users
    if rows.repeated:
        message = f"{rows.repeated:,} rows repeat an earlier part of the sequence of their user: no cases of them"
        warnings.append(message)
    if cases != sum(counts) or [int(share * cases) for share in SHARES] != begins:
        option = f"--set protocol.cut=[{begins[0] + 0.5},{begins[1] + 0.5}]"
        warnings.append(f"rolling-time would cut elsewhere than these files: say {option}")
    return tuple(warnings)

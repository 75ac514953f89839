"""Reader of MiniOneRec's layout: `train/NAME.csv`, `valid/NAME.csv` and `test/NAME.csv`, one case a row, with the last
items before it (`history_item_id`) and its target (`item_id`); optionally `index/CATEGORY.item.json` and
`index/CATEGORY.index.json`.

The files have no times. Their rows are in order of time, so the number of a row (train, valid, test one after the
other) is the timestamp of its target, and `rolling-time` makes the same cases of them again. Dates, and which
interactions have equal times, are not in the files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.item_index_file import beside
from harness.data.names import is_hidden
from harness.data.readers import lcrec
from harness.data.readers.csv_tables import written_list
from harness.data.readers.interactions import Log
from harness.data.readers.sequences import Case, Joined, joined
from harness.data.readers.table_files import PARTS, TableFile, read_table
from harness.data.reading import BadLines, Reading
from harness.errors import InputError

ENDING = ".csv"
SHARES = (0.8, 0.9)  # where rolling-time cuts by default
USER, HISTORY, ITEM, TITLE = "user_id", "history_item_id", "item_id", "item_title"
RULE = (
    "order within a user: by row, the train, valid and test file one after the other; timestamps are the numbers of "
    "the rows, because the files have no times, and equal times cannot be seen"
)


def names(folder: Path) -> list[str]:
    """The `NAME`s of which all three files exist."""
    stems = (path.name.removesuffix(ENDING) for path in (folder / PARTS[0]).glob(f"?*{ENDING}") if not is_hidden(path))
    return sorted(name for name in stems if all(path.is_file() for path in _paths(folder, name)))


def of_file(path: Path) -> str | None:
    """The `NAME` of which this is one of the three files, None for another file."""
    name = path.name.removesuffix(ENDING)
    return name if path.parent.name in PARTS and name in names(path.parent.parent) else None


def read(folder: Path, name: str, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """Users in order of first appearance. The sequence of a user is the history of the first row and the targets of
    all rows; the history of every other row is checked against it. With the order `file` there are no timestamps."""
    reading = reading or Reading()
    if reading.columns or reading.min_rating is not None:
        message, hint = "this layout has its own columns and no ratings", "leave the option out"
        raise InputError(message, where=str(folder), hint=hint, code="conflicting-options")
    paths = _paths(folder, name)
    files = [read_table(path, reading) for path in paths]
    bad = BadLines(f"{name}{ENDING}", reading)
    for file in files:
        bad.join(file.bad)
    parts = [_cases(file, bad) for file in files]
    rows = joined([case for part in parts for case in part], bad)
    texts, item_file = _texts(folder, name, files)
    log = Log(
        folder / "*" / f"{name}{ENDING}",
        rows.users,
        rows.items,
        np.array(rows.numbers, np.float64) if order == "time" else [],
        rows.lines,
        order,
        reading=reading,
        bad=bad,
        item_file=item_file,
        in_seconds=True,
    )
    dataset = log.dataset(name, texts, f"MiniOneRec layout, {name}")
    counts = [len(part) for part in parts]
    warnings = (*dataset.warnings, *_warnings(rows, counts, len(dataset.users)))
    notes = (RULE, *_notes(rows, counts, len(dataset.users)), *dataset.notes[1:], *warnings[len(dataset.warnings) :])
    category = _category(folder, name, ".index.json")
    index_file = beside(folder / "index", category) if category else None
    return replace(dataset, notes=notes, warnings=warnings, index_file=index_file)


def _paths(folder: Path, name: str) -> list[Path]:
    return [folder / part / f"{name}{ENDING}" for part in PARTS]


def _cases(file: TableFile, bad: BadLines) -> list[Case]:
    missing = [column for column in (USER, HISTORY, ITEM) if column not in file.columns]
    if missing:
        hint = f"MiniOneRec's files begin with {USER}, {HISTORY} and {ITEM} (it has {','.join(file.columns)})"
        message = f"the header lacks {', '.join(missing)}"
        raise InputError(message, where=f"{file.path} line 1", hint=hint, code="missing-column")
    cases = []
    rows = zip(*(file.column(name) for name in (USER, HISTORY, ITEM)), file.lines, strict=True)
    for number, (user, history, item, line) in enumerate(rows, start=1):
        location = f"{file.path} line {line}"
        listed = written_list(history)
        if listed and user.strip() and item.strip():
            cases.append(Case(user.strip(), listed, item.strip(), line, location))
        else:
            message, hint = f"a row needs {USER}, {HISTORY} and {ITEM}", f"write {HISTORY} as [12, 7, 3], not empty"
            bad.add(InputError(message, where=location, hint=hint, code="bad-line"), number)
    return cases


def _texts(folder: Path, name: str, files: list[TableFile]) -> tuple[dict[str, ItemText] | None, ItemFile | None]:
    """Text from the item file, else the titles of the targets."""
    category = _category(folder, name, lcrec.ITEMS)
    if category is not None:
        path = folder / "index" / f"{category}{lcrec.ITEMS}"
        texts = lcrec.read_texts(path)
        return texts, ItemFile(path, tuple(texts))
    if any(TITLE not in file.columns for file in files):
        return None, None
    titles = {
        item.strip(): ItemText(title=title.strip())
        for file in files
        for item, title in zip(file.column(ITEM), file.column(TITLE), strict=True)
    }
    return titles, None


def _category(folder: Path, name: str, ending: str) -> str | None:
    """The longest stem of a file of `index/` with which `name` begins (`NAME` is a category and its dates)."""
    stems = [path.name.removesuffix(ending) for path in (folder / "index").glob(f"?*{ending}")]
    return max((stem for stem in stems if name.startswith(stem)), key=len, default=None)


def _notes(rows: Joined, counts: list[int], users: int) -> tuple[str, ...]:
    listed = ", ".join(f"{count:,}" for count in counts)
    return (
        f"train, valid and test have {listed} cases; {rows.given:,} items of {users:,} users are known from the "
        "history of their first row alone, every other history follows from the rows before it",
        f"histories reach back {rows.window} items: --set protocol.max_history={rows.window} gives the same ones",
    )


def _warnings(rows: Joined, counts: list[int], users: int) -> tuple[str, ...]:
    """What keeps rolling-time from making the same cases by default."""
    begins = [counts[0], counts[0] + counts[1]]
    warnings = []
    cases = len(rows.items) - users
    if rows.repeated:
        warnings.append(
            f"{rows.repeated:,} rows repeat an earlier part of the sequence of their user: no cases of them"
        )
    if cases != sum(counts) or [int(share * cases) for share in SHARES] != begins:
        option = f"--set protocol.cut=[{begins[0] + 0.5},{begins[1] + 0.5}]"
        warnings.append(f"rolling-time would cut elsewhere than these files: say {option}")
    return tuple(warnings)

"""Reader of RecBole's split files `NAME.train.inter`, `NAME.valid.inter` and `NAME.test.inter` as one data set.

They are joined and split again by the protocol, so that all models share one split. Two forms are read: plain rows,
and rows with the history written out (`item_id_list:token_seq` and the item that follows).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from harness.data.dataset import Dataset, Order
from harness.data.names import is_hidden
from harness.data.readers import recbole_atomic
from harness.data.readers.interactions import Log
from harness.data.readers.sequences import Case, joined
from harness.data.reading import ITEM, RATING, TIMESTAMP, USER, BadLines, Reading

PARTS = (".train", ".valid", ".test")
LISTS = ("item_id_list", "item_list", "item_seq")
JOINED = "RecBole's train, valid and test files are joined; the protocol cuts them again"
RULE = "order within a user: the train, valid and test file one after the other, each by its lines"


def names(folder: Path) -> list[str]:
    """The possible `NAME`s in this folder, of which all three files exist."""
    firsts = (path for path in folder.glob(f"?*{PARTS[0]}{recbole_atomic.INTERACTIONS}") if not is_hidden(path))
    problems = (path.name.removesuffix(f"{PARTS[0]}{recbole_atomic.INTERACTIONS}") for path in firsts)
    return sorted(name for name in problems if all(path.is_file() for path in _paths(folder, name)))


def read(folder: Path, name: str, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """Users and items in order of first appearance, file by file. Each user's rows by (timestamp, line); where there
    are no timestamps, in the order of the files and of their lines."""
    reading = reading or Reading()
    paths = _paths(folder, name)
    header = recbole_atomic.header(paths[0])
    listed = next((field for field in LISTS if header.get(field) == "token_seq"), None)
    timed = order == "time" and listed is None and TIMESTAMP in header
    needed = {USER: "token", ITEM: "token", **({TIMESTAMP: "float"} if timed else {})}
    files = [recbole_atomic.read_atomic(path, needed, reading, (RATING,)) for path in paths]
    texts, message, item_file = recbole_atomic.read_items(folder / f"{name}{recbole_atomic.ITEMS}", reading)
    bad = files[0].bad
    for file in files[1:]:
        bad.join(file.bad)
    columns = [_columns(file, timed=timed) for file in files] if listed is None else [_unrolled(files, listed, bad)]
    users = list(chain.from_iterable(part.users for part in columns))
    items = list(chain.from_iterable(part.items for part in columns))
    times = list(chain.from_iterable(part.times for part in columns))
    lines = list(chain.from_iterable(part.lines for part in columns))
    rated = listed is None and all(RATING in file.columns.places for file in files)
    ratings = chain.from_iterable(file.column(file.columns.places[RATING]) for file in files) if rated else ()
    log = Log(
        paths[0].with_name(f"{name}.*{recbole_atomic.INTERACTIONS}"),
        users,
        items,
        times,
        lines,
        "time" if timed else "file",
        ratings=list(ratings) if rated else None,
        reading=reading,
        bad=bad,
        notes=(*files[0].columns.notes(paths[0].name), *chain.from_iterable(f.notes for f in files), *message, JOINED),
        item_file=item_file,
    )
    dataset = log.dataset(name, texts, f"RecBole's split files, {name}")
    return dataset if timed else replace(dataset, notes=(RULE, *dataset.notes[1:]))


def _paths(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}{part}{recbole_atomic.INTERACTIONS}" for part in PARTS]


class _Rows(NamedTuple):
    """Interactions in order, with their lines."""

    users: list[str]
    items: list[str]
    times: list[str]
    lines: list[int]


def _columns(file: recbole_atomic.AtomicFile, *, timed: bool) -> _Rows:
    places = file.columns.places
    times = file.column(places[TIMESTAMP]) if timed else []
    return _Rows(file.column(places[USER]), file.column(places[ITEM]), times, file.lines)


def _unrolled(files: list[recbole_atomic.AtomicFile], listed: str, bad: BadLines) -> _Rows:
    """The sequences of which the rows are histories, perhaps truncated, and the items that follow."""
    cases = [
        Case(user, history.split(), item, line, f"{file.path} line {line}")
        for file in files
        for user, history, item, line in zip(
            file.column(file.columns.places[USER]),
            file.column(listed),
            file.column(file.columns.places[ITEM]),
            file.lines,
            strict=True,
        )
    ]
    rows = joined(cases, bad)
    return _Rows(rows.users, rows.items, [], rows.lines)

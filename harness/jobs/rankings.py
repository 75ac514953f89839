"""Reads rankings made elsewhere: ranx JSON, TREC run, CSV. Raw ids in, validated `Predictions` out.

Equal scores keep the order of the file: the rule is declared, and how often it decided is counted.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.dataset import Dataset
from harness.data.readers.files import read_json
from harness.errors import InputError
from harness.protocol.predictions import NOBODY, Predictions

TIE_RULE = "equal scores keep the order of the file"
CSV_COLUMNS = ("user", "item", "score")

Row = tuple[str, str, float, str]  # user, item, score, and the place in the file that says so


@dataclass(frozen=True)
class Rankings:
    """`tied_users` have equal scores within their list, `tied_pairs` neighbours in all."""

    predictions: Predictions
    layout: str
    rows: int
    tied_users: int
    tied_pairs: int


def read_rankings(path: Path, dataset: Dataset, depth: int, asked: np.ndarray) -> Rankings:
    """The lists of the users `asked` of `dataset` (positions, shape (n,)), by falling score, cut to `depth`. Lists of
    other users of the data set are read, checked and left out.

    `.json` is {user: {item: score}}, `.csv` has the columns user,item,score, any other name is a TREC run (user Q0 item
    rank score tag; the score counts, not the rank). Raises `InputError` for anything that is not one whole ranking.
    """
    layout = {".json": "ranx JSON", ".csv": "CSV"}.get(path.suffix.lower(), "TREC run")
    readers = {"ranx JSON": _json_rows, "CSV": _csv_rows, "TREC run": _trec_rows}
    try:
        lists, rows = _collect(readers[layout](path), dataset, path)
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", where=str(path), mend="mend the quotes") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InputError(f"cannot be read: {reason}", where=str(path)) from error
    if missing := [dataset.users[user] for user in asked.tolist() if not lists[user]]:
        shown = ", ".join(map(repr, missing[:3])) + (", …" if len(missing) > 3 else "")
        raise InputError(
            f"{len(missing)} of {len(asked)} users have no ranking ({shown})",
            where=str(path),
            mend="rank items for every user that the protocol asks",
        )
    ranked = [sorted(lists[user].items(), key=lambda pair: -pair[1])[:depth] for user in asked.tolist()]
    return _arrays(asked, ranked, layout, rows)


def _collect(rows: Iterator[Row], dataset: Dataset, path: Path) -> tuple[list[dict[int, float]], int]:
    users = {user: position for position, user in enumerate(dataset.users)}
    items = {item: position for position, item in enumerate(dataset.items)}
    lists: list[dict[int, float]] = [{} for _ in users]
    count = 0
    for user, item, score, place in rows:
        where = f"{path} {place}"
        mend = f"use the raw ids of {dataset.name}"
        if user not in users:
            raise InputError(f"unknown user {user!r}", where=where, mend=mend)
        if item not in items:
            raise InputError(f"unknown item {item!r}", where=where, mend=mend)
        ranked = lists[users[user]]
        if items[item] in ranked:
            raise InputError(f"item {item!r} is listed twice for user {user!r}", where=where, mend="list it once")
        ranked[items[item]] = score
        count += 1
    return lists, count


def _arrays(users: np.ndarray, lists: list[list[tuple[int, float]]], layout: str, rows: int) -> Rankings:
    shape = (len(lists), max(map(len, lists), default=1))
    items, scores = np.full(shape, NOBODY), np.zeros(shape)
    for row, ranked in enumerate(lists):
        items[row, : len(ranked)] = [item for item, _ in ranked]
        scores[row, : len(ranked)] = [score for _, score in ranked]
    tied = (scores[:, 1:] == scores[:, :-1]) & (items[:, 1:] != NOBODY)
    predictions = Predictions(users, items, scores)
    return Rankings(predictions, layout, rows, int(tied.any(axis=1).sum()), int(tied.sum()))


def _json_rows(path: Path) -> Iterator[Row]:
    content = read_json(path)
    expected = "give {user: {item: score}}"
    if not isinstance(content, Mapping):
        raise InputError("holds no mapping of users", where=str(path), mend=expected)
    for user, ranked in content.items():
        place = f"user {user!r}"
        if not isinstance(ranked, Mapping):
            raise InputError("holds no mapping of items to scores", where=f"{path} {place}", mend=expected)
        for item, score in ranked.items():
            number = isinstance(score, (int, float)) and not isinstance(score, bool)
            yield user, item, _score(score if number else None, repr(score), f"{path} {place} item {item!r}"), place


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        missing = [name for name in CSV_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            mend = "begin with the header user,item,score"
            raise InputError(f"no column {missing[0]!r}", where=f"{path} line 1", mend=mend)
        for row in reader:
            place = f"line {reader.line_num}"
            if any(row[name] is None for name in CSV_COLUMNS):
                raise InputError("too few fields", where=f"{path} {place}", mend="give user,item,score")
            yield row["user"], row["item"], _score(row["score"], repr(row["score"]), f"{path} {place}"), place


def _trec_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not (fields := line.split()):
                continue
            place = f"line {number}"
            if len(fields) != 6:
                mend = "give user Q0 item rank score tag"
                raise InputError(f"{len(fields)} fields, a TREC run has 6", where=f"{path} {place}", mend=mend)
            yield fields[0], fields[2], _score(fields[4], repr(fields[4]), f"{path} {place}"), place


def _score(value: str | float | None, shown: str, where: str) -> float:
    try:
        score = math.nan if value is None else float(value)
    except (ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"score {shown} is not a finite number", where=where, mend="give a number, larger is better")
    return score

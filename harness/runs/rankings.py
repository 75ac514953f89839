"""Validates external rankings as `Predictions`: the lists of a file with raw ids, for the evaluated users.

Larger scores come first. Ties are broken by the file's ranks if it has any, else by a hash of user and item, never by
the order of lines. Without scores the ranks determine the order, and without ranks the order of lines. The record
counts the ties and how they were broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.errors import InputError
from harness.protocol.predictions import Predictions
from harness.protocol.split import EvaluationSplit
from harness.runs.ranking_files import Listed, read_listed

TIE_RULE = "equal scores by rank where the file has ranks, else by a hash of user and item"
EMPTY = "rank items for every evaluated user, or give an empty list: a row without an item, [] in JSON"


@dataclass(frozen=True)
class Rankings:
    """`whole`: the complete lists; `predictions`: the lists truncated to the requested depth. `tied_users`: users with
    ties in the truncated list or at its end; `tied_pairs`: tied neighbours; `hashed_pairs`: those without distinct
    ranks. `crossed`: users whose ranks contradict their scores; `empty`: users with an empty list. `by`: `scores`,
    `ranks` or `lines`; `rising`: without ranks, scores never fall from a user's row to the next."""

    predictions: Predictions
    whole: Predictions
    layout: str
    rows: int
    tied_users: int
    tied_pairs: int
    hashed_pairs: int
    crossed: int
    empty: int
    by: str
    rising: bool = False
    columns: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """How the file was read, for the record."""
        ties = {"users": self.tied_users, "pairs": self.tied_pairs, "by_hash": self.hashed_pairs}
        return {
            "layout": self.layout,
            "rows": self.rows,
            "order": self.by,
            "ties": {"rule": TIE_RULE, **ties},
            "ranks_contradict_scores": self.crossed,
            "empty_lists": self.empty,
        }

    def notes(self) -> list[str]:
        """Notes on how the file was read, one line each."""
        requested = len(self.predictions.cases)
        results = []
        if self.tied_pairs:
            ranked = self.tied_pairs - self.hashed_pairs
            names = [f"{ranked:,} by their ranks"] if ranked else []
            names += [f"{self.hashed_pairs:,} by a hash of user and item, not by line"] if self.hashed_pairs else []
            results.append(
                f"equal {self.by} in the lists of {self.tied_users:,} of {requested:,} users: "
                f"{self.tied_pairs:,} neighbours, {', '.join(names)}"
            )
        if self.crossed:
            results.append(f"ranks contradict the scores of {self.crossed:,} users; the scores count, larger is better")
        if self.rising:
            results.append("scores rise along every list; larger counts as better: negate them if they are distances")
        if self.by == "lines":
            results.append("no column of scores or ranks: items are ranked by the order of lines")
        results += self.columns
        if self.empty:
            results.append(f"empty lists of {self.empty:,} of {requested:,} users count as misses")
        return results


def read_rankings(path: Path, dataset: Dataset, depth: int, fold: EvaluationSplit) -> Rankings:
    """The lists of the cases of `fold`, truncated to `depth`; users stand for cases where each has one. Lists of other
    users of the data set are validated and ignored. An explicit empty list is valid; a missing user is an error. Raises
    `InputError` for an invalid ranking."""
    listed = read_listed(path)
    names, requested = fold.names(dataset.users), fold.requests.cases
    users, items = _positions(listed, path, names, dataset)
    _check_doubles(listed, users, items, len(dataset.items))
    _check_missing(listed, path, names, users, requested)
    row = np.full(len(names), -1)
    row[requested] = np.arange(len(requested))
    selected = np.flatnonzero(row[users] >= 0)
    ranks, scores = listed.ranks, listed.scores
    by = "scores" if scores is not None else "ranks" if ranks is not None else "lines"
    if ranks is None:
        ranks = np.arange(len(users)) if by == "lines" else np.zeros(len(users))
    scores = -ranks if scores is None else scores
    order = _order(listed, selected, row[users], scores, ranks)
    list_row = row[users[order]]
    lengths = np.bincount(list_row, minlength=len(requested))
    place = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    predictions = Predictions.of_entries(requested, (list_row, place), items[order], scores[order])
    ties = (list_row[1:] == list_row[:-1]) & (scores[order][1:] == scores[order][:-1]) & (place[1:] <= depth)
    crossed = (list_row[1:] == list_row[:-1]) & (ranks[order][1:] < ranks[order][:-1])
    return Rankings(
        predictions=predictions.first(depth),
        whole=predictions,
        layout=listed.layout,
        rows=len(users),
        tied_users=len(np.unique(list_row[1:][ties])),
        tied_pairs=int(ties.sum()),
        hashed_pairs=int((ties & (ranks[order][1:] == ranks[order][:-1])).sum()),
        crossed=len(np.unique(list_row[1:][crossed])),
        empty=int((lengths == 0).sum()),
        by=by,
        rising=listed.scores is not None and listed.ranks is None and _rising(users, listed.scores),
        columns=listed.notes,
    )


def _positions(listed: Listed, path: Path, names: Sequence[str], dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """User and item of each row as positions in `names`, the names of cases, and in the data set's items."""
    results = []
    for kind, raw, registered in (("user", listed.users, names), ("item", listed.items, dataset.items)):
        index_of = {name: position for position, name in enumerate(registered)}
        places = {name: index_of.get(name, index_of.get(name.removesuffix(".0"), -1)) for name in set(raw)}  # pandas
        results.append(np.array([places[name] for name in raw], dtype=np.int64))
        hint = f"use the raw ids of {dataset.name}"
        if kind == "user" and names is not dataset.users:
            hint = "name each case USER#N, as in test_histories.json of harness data export --split"
        if len(unknown := np.flatnonzero(results[-1] < 0)):
            n = int(unknown[0])
            raise InputError(f"unknown {kind} {raw[n]!r}", where=listed.place(n), hint=hint)
        if kind == "user" and (strange := sorted(listed.empty - index_of.keys())):
            raise InputError(f"unknown user {strange[0]!r}", where=path, hint=hint)
    return results[0], results[1]


def _check_doubles(listed: Listed, users: np.ndarray, items: np.ndarray, n_items: int) -> None:
    keys = users * n_items + items
    order = np.argsort(keys, kind="stable")
    if len(repeated := order[1:][keys[order][1:] == keys[order][:-1]]):
        n = int(repeated.min())
        message = f"item {listed.items[n]!r} is listed twice for user {listed.users[n]!r}"
        raise InputError(message, where=listed.place(n), hint="list it once")


def _check_missing(listed: Listed, path: Path, names: Sequence[str], users: np.ndarray, requested: np.ndarray) -> None:
    name = np.zeros(len(names), dtype=bool)
    name[users] = True
    if listed.whole and name[requested].any():
        return
    missing = [user for user in (names[n] for n in requested[~name[requested]]) if user not in listed.empty]
    if missing:
        text = ", ".join(map(repr, missing[:3])) + (", …" if len(missing) > 3 else "")
        raise InputError(f"{len(missing)} of {len(requested)} users have no ranking ({text})", where=path, hint=EMPTY)


def _order(listed: Listed, selected: np.ndarray, row: np.ndarray, scores: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The selected rows, list by list, best first."""
    order = selected[np.lexsort((ranks[selected], -scores[selected], row[selected]))]
    equal = np.ones(max(0, len(order) - 1), dtype=bool)
    for values in (row, scores, ranks):
        equal &= values[order][1:] == values[order][:-1]
    ties = order[np.append(equal, False) | np.insert(equal, 0, False)] if len(order) else order
    hashes = np.zeros(len(row), dtype=np.uint64)
    hashes[ties] = _hashes(listed.users, listed.items, ties)
    return selected[np.lexsort((hashes[selected], ranks[selected], -scores[selected], row[selected]))]


def _rising(users: np.ndarray, scores: np.ndarray) -> bool:
    steps = np.diff(scores)[users[1:] == users[:-1]]
    return bool((steps >= 0).all() and (steps > 0).any())


def _hashes(users: Sequence[str], items: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """A hash per row, uint64, of its raw ids."""
    texts = (f"{users[n]}\0{items[n]}".encode("utf-8", "surrogatepass") for n in rows.tolist())
    numbers = (int.from_bytes(blake2b(text, digest_size=8).digest()) for text in texts)
    return np.fromiter(numbers, dtype=np.uint64, count=len(rows))

"""Leave-one-out: cuts a `Dataset` into training, validation and test, and names the cut by a fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.data.dataset import Canonical, Dataset, ItemText
from harness.data.ragged import Ragged
from harness.errors import InputError
from harness.fingerprint import fingerprint
from harness.protocol.protocol import Protocol
from harness.protocol.requests import Requests, Targets

FEWEST = 3  # interactions that a user needs: one to train on, one to validate, one to test


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All that a model may learn from: the training part of each user, and the catalogue with its text.

    `sequences[u]` holds item ids of user `u`, oldest first, without the validation and the test item. `users` are the
    raw ids, for files that name users.
    """

    dataset: str
    items: tuple[str, ...]
    sequences: Ragged
    text: Sequence[ItemText] | None
    max_history: int
    users: tuple[str, ...] = ()

    @property
    def n_users(self) -> int:
        return len(self.sequences)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every row that a model trained on this has seen: the provenance of what it makes."""
        return fingerprint(self.items, self.sequences.values, self.sequences.offsets)

    @cached_property
    def rows_fingerprint(self) -> str:
        """The same rows under their raw item ids, free of the order of users and items: what an artefact's provenance
        names, so that it holds for the same data read from another layout."""
        order = Canonical.of((), self.items)
        named = Ragged(order.item_ranks[self.sequences.values], self.sequences.offsets)
        rows = sorted(row.tobytes() for row in named if len(row))
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        values = np.frombuffer(b"".join(rows), dtype=np.int64)
        return fingerprint([self.items[item] for item in order.items], values, lengths)

    def counts(self) -> np.ndarray:
        """Training interactions an item, int64, shape (n_items,)."""
        return np.bincount(self.sequences.values, minlength=self.n_items)


@dataclass(frozen=True, eq=False)
class Fold:
    """One set of questions with its answers kept apart."""

    requests: Requests
    targets: Targets


@dataclass(frozen=True, eq=False)
class Split:
    """A data set under a protocol. `fingerprint` covers everything that every model is given to learn and to rank."""

    protocol: Protocol
    train: TrainingData
    valid: Fold
    test: Fold
    fingerprint: str


def leave_one_out(dataset: Dataset, protocol: Protocol) -> Split:
    """Per user: last item = test, second last = validation, the rest = training; histories keep their latest items.

    Raises `InputError` for a user with fewer than 3 interactions.
    """
    lengths = dataset.sequences.lengths
    short = np.flatnonzero(lengths < FEWEST)
    if len(short):
        user = dataset.users[int(short[0])]
        raise InputError(
            f"user {user!r} has {lengths[short[0]]} interactions, {protocol.name} needs {FEWEST} "
            f"({len(short)} such users)",
            where=dataset.name,
            mend="drop these users, for example by a k-core filter",
        )
    train = dataset.sequences.trimmed(2)
    folds = {
        fold: _fold(fold, dataset.sequences, held_out, protocol.max_history)
        for fold, held_out in (("valid", 2), ("test", 1))
    }
    data = TrainingData(dataset.name, dataset.items, train, dataset.text, protocol.max_history, dataset.users)
    mark = _mark(dataset, protocol, train, *folds.values())
    return Split(protocol, data, folds["valid"], folds["test"], mark)


def _mark(dataset: Dataset, protocol: Protocol, train: Ragged, *folds: Fold) -> str:
    """Hash of what every model is given, free of the order in which the source lists users and items (the raw ids are
    in the data set's own fingerprint)."""
    order = dataset.canonical
    parts: list[np.ndarray] = []
    for rows in (train, *(fold.requests.histories for fold in folds)):
        named = order.sequences(rows)
        parts += [named.values, named.offsets]
    answers = [order.item_ranks[fold.targets.items[order.users]] for fold in folds]
    return fingerprint(protocol.model_dump(), dataset.fingerprint, *parts, *answers)


def _fold(name: str, sequences: Ragged, held_out: int, max_history: int) -> Fold:
    users = np.arange(len(sequences))
    answers = sequences.values[sequences.offsets[1:] - held_out]
    histories = sequences.trimmed(held_out).tails(max_history)
    return Fold(Requests(name, users, histories), Targets(users, answers))

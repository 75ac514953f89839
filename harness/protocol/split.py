"""Splits a `Dataset` into training, validation and test under any protocol, with a fingerprint of the split.

`harness.protocol.protocol` defines the split points; all else is the same for every protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from harness.core.hashing import fingerprint
from harness.data.dataset import CanonicalOrder, Dataset, ItemFile, ItemText, Review, reviews_of
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.protocol.protocol import DEPTH, CasePoints, Protocol, SplitPoint, cut
from harness.protocol.requests import Requests, Targets, case_names


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All data that a model may train on: the training part of each user, and the catalogue with its text.

    `sequences[u]` holds item ids of user `u`, oldest first, without the validation and the test item. `users` are the
    raw ids, for files that name users. `index_file` is the item index file of the data set, if it has one. `reviews`
    are those of training interactions, None where the data set has none. `item_file` is the data set's.
    """

    dataset: str
    items: tuple[str, ...]
    sequences: RaggedArray
    text: Sequence[ItemText] | None
    max_history: int
    users: tuple[str, ...] = ()
    index_file: Path | None = None
    reviews: tuple[Review, ...] | None = None
    item_file: ItemFile | None = None

    @property
    def n_users(self) -> int:
        return len(self.sequences)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every training row, for the provenance of artefacts."""
        return fingerprint(self.items, self.sequences.values, self.sequences.offsets)

    @cached_property
    def rows_fingerprint(self) -> str:
        """The same rows under their raw item ids, independent of the order of users and items: the provenance of an
        artefact uses it, so that it is valid for the same data in another layout."""
        order = CanonicalOrder.of((), self.items)
        ragged_array = RaggedArray(order.item_ranks[self.sequences.values], self.sequences.offsets)
        rows = sorted(row.tobytes() for row in ragged_array if len(row))
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        values = np.frombuffer(b"".join(rows), dtype=np.int64)
        return fingerprint([self.items[item] for item in order.items], values, lengths)

    @cached_property
    def repeats_items(self) -> bool:
        """Whether any training sequence names an item twice."""
        pairs = self.sequences.rows() * self.n_items + self.sequences.values
        return len(np.unique(pairs)) < len(pairs)

    def excludes_viewed(self, setting: bool | Literal["auto"]) -> bool:
        """Whether `filter_viewed` excludes the items of a history; auto: if no training sequence repeats an item."""
        return not self.repeats_items if setting == "auto" else setting

    def require_next_items(self) -> None:
        """Raises `InputError` where no user has two training items."""
        if not (self.sequences.lengths > 1).any():
            hint = "a model of sequences needs users with two training items or more"
            raise InputError("no training sequence has two items", where=self.dataset, hint=hint)

    def counts(self) -> np.ndarray:
        """Training interactions per item, int64, shape (n_items,)."""
        return np.bincount(self.sequences.values, minlength=self.n_items)


@dataclass(frozen=True, eq=False)
class EvaluationSplit:
    """All requests of a fold, sorted by user, with their targets."""

    requests: Requests
    targets: Targets

    def names(self, users: tuple[str, ...]) -> tuple[str, ...]:
        """The name of each case id in files; `users` are the raw ids of the data set."""
        return case_names(self.requests, users)


@dataclass(frozen=True, eq=False)
class SplitParts:
    """The parts of a data set under a protocol."""

    cut: SplitPoint
    train: TrainingData
    valid: EvaluationSplit
    test: EvaluationSplit


@dataclass(frozen=True, eq=False)
class Split(SplitParts):
    """A data set under a protocol. `fingerprint` covers everything that a model gets for training and ranking."""

    protocol: Protocol
    fingerprint: str

    @property
    def key(self) -> str:
        """What a run's id holds of it: the fingerprint, and how many items are stored where that is not the default."""
        depth = self.protocol.depth
        return self.fingerprint if depth == DEPTH else f"{self.fingerprint}/{depth}"


def split(dataset: Dataset, protocol: Protocol) -> Split:
    """The data set under the protocol; histories are truncated to their latest items.

    Raises `InputError` where the protocol cannot be applied: a user too short for leave-one-out, no timestamps or an
    empty part for global time.
    """
    split_parts = parts(dataset, protocol)
    mark = _mark(dataset, protocol, split_parts)
    return Split(**vars(split_parts), protocol=protocol, fingerprint=mark)


def parts(dataset: Dataset, protocol: Protocol) -> SplitParts:
    """The parts alone, without their fingerprint."""
    split_point, rows = cut(dataset, protocol), dataset.sequences
    train = rows.first(split_point.train)
    data = TrainingData(
        dataset.name,
        dataset.items,
        train,
        dataset.model_text,
        protocol.max_history,
        dataset.users,
        dataset.index_file,
        dataset.reviews and reviews_of(dataset.reviews, dataset.users, dataset.items, rows, train),
        dataset.item_file,
    )
    valid, test = (
        _fold(name, rows, points, protocol)
        for name, points in (("valid", split_point.valid), ("test", split_point.test))
    )
    return SplitParts(split_point, data, valid, test)


def _fold(name: str, sequences: RaggedArray, points: CasePoints, protocol: Protocol) -> EvaluationSplit:
    ends = sequences.offsets[points.users] + points.places
    histories = sequences.windows(ends - np.minimum(points.places, protocol.max_history), ends)
    requests = Requests(name, points.users, histories, np.arange(len(ends)) if protocol.rolling else None)
    return EvaluationSplit(requests, Targets(requests.cases, sequences.values[ends]))


def _mark(dataset: Dataset, protocol: Protocol, split_parts: SplitParts) -> str:
    """Hash of the inputs of every model, independent of the order of users and items in the source (the raw ids are in
    the data set's own fingerprint)."""
    order = dataset.canonical
    ragged_array = order.sequences(split_parts.train.sequences)
    values, held_out = [ragged_array.values, ragged_array.offsets], []
    ranks = np.empty(len(dataset.users), np.int64)
    ranks[order.users] = np.arange(len(ranks))
    for fold in (split_parts.valid, split_parts.test):
        rows = np.argsort(ranks[fold.requests.users], kind="stable")
        requested = ranks[fold.requests.users[rows]]
        histories = fold.requests.histories.take(rows)
        values += [order.item_ranks[histories.values], histories.offsets]
        held_out.append(order.item_ranks[fold.targets.items[rows]])
        if not np.array_equal(requested, np.arange(len(ranks))):  # not one case of each user
            held_out.append(requested)
    return fingerprint(protocol.rules(), dataset.fingerprint, *values, *held_out)

"""`harness data verify`: holds a data set and its split to the rules, by code that shares nothing with the split's.

Everything is counted again per user with plain lists, slow and plain on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from harness.data.catalogue import CatalogueEntry, catalogue_entries
from harness.data.dataset import Dataset
from harness.errors import InputError
from harness.protocol.protocol import Protocol
from harness.protocol.split import Fold, Split, leave_one_out


@dataclass(frozen=True)
class Check:
    """One rule: whether it holds, and what was seen."""

    name: str
    ok: bool
    detail: str


def verify(dataset: Dataset, protocol: Protocol) -> list[Check]:
    """Every check in a fixed order; nothing raises for a rule that is broken, its check says so."""
    checks = [*_catalogue(dataset, catalogue_entries().get(dataset.name)), *_data(dataset)]
    try:
        split = leave_one_out(dataset, protocol)
    except InputError as error:
        return [*checks, Check("split", False, str(error))]
    return [*checks, *_split(dataset, protocol, split)]


def _catalogue(dataset: Dataset, entry: CatalogueEntry | None) -> Iterator[Check]:
    if entry is None:
        yield Check("fingerprint", True, f"{dataset.fingerprint}; not in the catalogue, so nothing to hold it to")
        return
    if entry.fingerprint is not None:
        detail = f"{dataset.fingerprint}, the catalogue says {entry.fingerprint}"
        yield Check("fingerprint", dataset.fingerprint == entry.fingerprint, detail)
    for name, stated, seen in (
        ("users", entry.users, len(dataset.users)),
        ("items", entry.items, len(dataset.items)),
        ("interactions", entry.interactions, dataset.interactions),
    ):
        if stated is not None:
            yield Check(name, seen == stated, f"{seen}, the catalogue says {stated}")


def _data(dataset: Dataset) -> Iterator[Check]:
    unused = len(dataset.items) - len(set(dataset.sequences.values.tolist()))
    yield Check("catalogue", unused == 0, f"{unused} of {len(dataset.items)} items stand in no interaction")
    if dataset.timestamps is None:
        yield Check("time order", True, "the source states the order, and no timestamps to hold it to")
        return
    offsets, times = dataset.sequences.offsets.tolist(), dataset.timestamps.tolist()
    back = sum(
        any(later < earlier for earlier, later in pairwise(row))
        for row in (times[start:stop] for start, stop in pairwise(offsets))
    )
    yield Check("time order", back == 0, f"{back} users whose timestamps go back")
    constant = len(times) > 1 and len(set(times)) == 1
    yield Check("timestamps differ", not constant, "all are equal" if constant else "they do")


def _split(dataset: Dataset, protocol: Protocol, split: Split) -> Iterator[Check]:
    rows = [row.tolist() for row in dataset.sequences]
    train = [row.tolist() for row in split.train.sequences]
    wrong = sum(given != row[: len(row) - 2] for given, row in zip(train, rows, strict=True))
    yield Check("training part", wrong == 0, f"{wrong} of {len(rows)} users whose part is not all but the last 2 items")
    for name, fold, held_out in (("validation", split.valid, 2), ("test", split.test, 1)):
        yield from _fold(name, fold, rows, held_out, protocol.max_history)
    kept = sum(len(row) for row in train)
    gone = dataset.interactions - kept
    yield Check(
        "leakage", gone == 2 * len(rows), f"{gone} interactions kept from training, 2 for each of {len(rows)} users"
    )
    again = leave_one_out(_turned(dataset), protocol).fingerprint
    same = again == split.fingerprint
    yield Check("split fingerprint", same, f"{split.fingerprint}, {again} with the users in another order")


def _fold(name: str, fold: Fold, rows: list[list[int]], held_out: int, longest: int) -> Iterator[Check]:
    asked, answers = fold.requests.users.tolist(), fold.targets.items.tolist()
    everyone = sorted(asked) == list(range(len(rows))) and fold.targets.users.tolist() == asked
    yield Check(f"{name} users", everyone, f"{len(set(asked))} of {len(rows)} users asked, each once")
    late = sum(answer != rows[user][-held_out] for user, answer in zip(asked, answers, strict=True))
    yield Check(f"{name} answers", late == 0, f"{late} answers that are not item {-held_out} of the user")
    leaking = 0
    for user, history in zip(asked, fold.requests.histories, strict=True):
        before = rows[user][: len(rows[user]) - held_out]
        leaking += history.tolist() != before[max(len(before) - longest, 0) :]
    detail = f"{leaking} histories that are not the latest {longest} items before the answer"
    yield Check(f"{name} histories", leaking == 0, detail)


def _turned(dataset: Dataset) -> Dataset:
    """The same data with its users in reverse order: must have the same fingerprint."""
    order = np.arange(len(dataset.users))[::-1]
    times = dataset.timestamps
    if times is not None:
        offsets = dataset.sequences.offsets
        times = np.concatenate([times[offsets[user] : offsets[user + 1]] for user in order])
    users = tuple(dataset.users[user] for user in order)
    return replace(dataset, users=users, sequences=dataset.sequences.take(order), timestamps=times)

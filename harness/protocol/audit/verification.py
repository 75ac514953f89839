"""`harness data verify`: an independent check of a data set and its split, which shares no code with the split.

Everything is recomputed for each user with plain lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from harness.data.catalog import CatalogueEntry, catalogue_entries
from harness.data.dataset import Dataset
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.protocol.audit.checks import canary
from harness.protocol.protocol import GLOBAL_TIME, LEAVE_ONE_OUT, ROLLING_TIME, Protocol, is_share, seconds
from harness.protocol.split import EvaluationSplit, Split, split

Plain = list[tuple[list[int], list[int], list[int]]]  # a user's training part, places of validation and test targets


@dataclass(frozen=True)
class Check:
    """One rule: whether it holds, and a detail."""

    name: str
    ok: bool
    detail: str


def verify(dataset: Dataset, protocol: Protocol, *, registered: bool = True) -> list[Check]:
    """All checks in a fixed order; a broken rule does not raise, its check reports it. A data set that is not
    `registered` (a folder) is not compared with the catalogue, whatever its name."""
    entry = catalogue_entries().get(dataset.name) if registered else None
    checks = [*_catalogue(dataset, entry), *_data(dataset)]
    try:
        current_split = split(dataset, protocol)
    except InputError as error:
        return [*checks, Check("split", False, str(error))]
    return [*checks, *_split(dataset, protocol, current_split)]


def _catalogue(dataset: Dataset, entry: CatalogueEntry | None) -> Iterator[Check]:
    if entry is None:
        yield Check("fingerprint", True, f"{dataset.fingerprint}; not in the catalogue, so nothing to hold it to")
        return
    if entry.fingerprint is not None:
        detail = f"{dataset.fingerprint}, the catalogue says {entry.fingerprint}"
        yield Check("fingerprint", dataset.fingerprint == entry.fingerprint, detail)
    for name, stated, history in (
        ("users", entry.users, len(dataset.users)),
        ("items", entry.items, len(dataset.items)),
        ("interactions", entry.interactions, dataset.interactions),
    ):
        if stated is not None:
            yield Check(name, history == stated, f"{history}, the catalogue says {stated}")


def _data(dataset: Dataset) -> Iterator[Check]:
    unused = len(dataset.items) - len(set(dataset.sequences.values.tolist()))
    yield Check("catalogue", unused == 0, f"{unused} of {len(dataset.items)} items stand in no interaction")
    if dataset.timestamps is None:
        yield Check("time order", True, "the source states the order, and no timestamps to hold it to")
        return
    rows = _times(dataset)
    back = sum(any(later < earlier for earlier, later in pairwise(row)) for row in rows)
    yield Check("time order", back == 0, f"{back} users whose timestamps go back")
    values = [row for row in rows if len(row) > 1]
    constant = bool(values) and all(len(set(row)) == 1 for row in values)
    yield Check("timestamps differ", not constant, "within no user" if constant else "they do")


def _split(dataset: Dataset, protocol: Protocol, current_split: Split) -> Iterator[Check]:
    rows = [row.tolist() for row in dataset.sequences]
    plain = _PLAIN[protocol.name](rows, dataset, protocol)
    train = [row.tolist() for row in current_split.train.sequences]
    wrong = sum(value != part for value, (part, _, _) in zip(train, plain, strict=True))
    yield Check("training part", wrong == 0, f"{wrong} of {len(rows)} users whose part is not what the protocol says")
    for name, fold, places in (
        ("validation", current_split.valid, [valid for _, valid, _ in plain]),
        ("test", current_split.test, [test for _, _, test in plain]),
    ):
        yield from _fold(name, fold, rows, places, protocol.max_history)
    yield _leakage(dataset, train, plain)
    invalid = canary(dataset, protocol)
    yield Check("canary", not invalid, invalid or "other targets in the data change nothing that a model is given")
    repeated = split(_turned(dataset), protocol).fingerprint
    equal = repeated == current_split.fingerprint
    yield Check("split fingerprint", equal, f"{current_split.fingerprint}, {repeated} with the users in another order")


def _leave_one_out(rows: list[list[int]], dataset: Dataset, protocol: Protocol) -> Plain:
    return [(row[:-2], [len(row) - 2], [len(row) - 1]) for row in rows]


def _global_time(rows: list[list[int]], dataset: Dataset, protocol: Protocol) -> Plain:
    assert protocol.cut is not None and dataset.timestamps is not None
    ordered = sorted(dataset.timestamps.tolist())
    begin_valid, begin_test = (
        ordered[int(seconds(mark) * len(ordered))] if is_share(seconds(mark)) else seconds(mark)
        for mark in protocol.cut
    )
    plain: Plain = []
    for row, times in zip(rows, _times(dataset), strict=True):
        part = [item for item, time in zip(row, times, strict=True) if time < begin_valid]
        valid = next((place for place, time in enumerate(times) if begin_valid <= time < begin_test), None)
        test = next((place for place, time in enumerate(times) if time >= begin_test), None)
        # a target at place 0 has no history and is not evaluated
        plain.append((part, [valid] if valid else [], [test] if test else []))
    return plain


def _rolling_time(rows: list[list[int]], dataset: Dataset, protocol: Protocol) -> Plain:
    assert protocol.cut is not None
    order = sorted(
        (time, dataset.users[user], place, user)
        for user, times in enumerate(_times(dataset))
        for place, time in enumerate(times)
    )
    marks = [seconds(mark) for mark in protocol.cut]
    if is_share(marks[0]):
        cases = [number for number, (_, _, place, _) in enumerate(order) if place > 0]
        begins = [cases[int(mark * len(cases))] for mark in marks]
    else:
        begins = [sum(time < mark for time, *_ in order) for mark in marks]
    plain: Plain = [([], [], []) for _ in rows]
    for number, (_, _, place, user) in enumerate(order):
        part, valid, test = plain[user]
        if number < begins[0]:
            part.append(rows[user][place])
        elif place > 0:
            (valid if number < begins[1] else test).append(place)
    return plain


_PLAIN: dict[str, Callable[[list[list[int]], Dataset, Protocol], Plain]] = {
    LEAVE_ONE_OUT: _leave_one_out,
    GLOBAL_TIME: _global_time,
    ROLLING_TIME: _rolling_time,
}


def _leakage(dataset: Dataset, train: list[list[int]], plain: Plain) -> Check:
    saved = sum(map(len, train))
    removed, expected = dataset.interactions - saved, dataset.interactions - sum(len(part) for part, _, _ in plain)
    requested = sum(len(places) for _, *folds in plain for places in folds)
    detail = f"{removed} interactions kept from training, {requested} of them targets"
    return Check("leakage", removed == expected >= requested, detail)


def _fold(
    name: str, fold: EvaluationSplit, rows: list[list[int]], places: list[list[int]], longest: int
) -> Iterator[Check]:
    requested, targets = fold.requests.users.tolist(), fold.targets.items.tolist()
    cases = fold.requests.cases.tolist()
    expected = [user for user, user_places in enumerate(places) for _ in user_places]
    everyone = sorted(requested) == expected and fold.targets.cases.tolist() == cases and len(set(cases)) == len(cases)
    once = "each once" if fold.requests.case_ids is None else f"{len(cases)} cases"
    yield Check(f"{name} users", everyone, f"{len(set(requested))} of {len(rows)} users evaluated, {once}")
    late = leaking = 0
    left = [list(user_places) for user_places in places]  # a user's cases come in the order of their places
    for user, target, history in zip(requested, targets, fold.requests.histories, strict=True):
        place = left[user].pop(0) if left[user] else None
        before = rows[user][:place]
        late += place is None or target != rows[user][place]
        leaking += place is None or history.tolist() != before[max(len(before) - longest, 0) :]
    yield Check(f"{name} targets", late == 0, f"{late} targets that are not the interaction that the protocol says")
    detail = f"{leaking} histories that are not the latest {longest} items before the target"
    yield Check(f"{name} histories", leaking == 0, detail)


def _times(dataset: Dataset) -> list[list[float]]:
    assert dataset.timestamps is not None
    times = dataset.timestamps.tolist()
    return [times[start:stop] for start, stop in pairwise(dataset.sequences.offsets.tolist())]


def _turned(dataset: Dataset) -> Dataset:
    """The same data with its users in reverse order: must have the same fingerprint."""
    order, times = np.arange(len(dataset.users))[::-1], dataset.timestamps
    if times is not None:
        times = times[RaggedArray(np.arange(len(times)), dataset.sequences.offsets).take(order).values]
    return replace(dataset, users=dataset.users[::-1], sequences=dataset.sequences.take(order), timestamps=times)

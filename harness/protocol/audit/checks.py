"""The checks of the audit, each of which measures one property of a data set under a protocol; the leakage canary.

A leak check compares held-out rows with training rows: a property equally frequent in both belongs to the data, one
that is frequent in held-out rows only is an alarm. The canary replaces the held-out items and asserts that no model
input changes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from harness.data.dataset import Dataset, ItemText
from harness.data.ragged import RaggedArray
from harness.data.statistics import duplicated
from harness.protocol.protocol import Protocol
from harness.protocol.split import EvaluationSplit, SplitParts, parts

SHORTEST_RUN, LONGEST_RUN = 5, 21  # items in a row that count as one person's
COPIES_BY_CHANCE = 1000  # one sequence in this many may have a copy by chance: more than on any known data set
LONG_TITLE, WORDS = 12, 3  # characters and words of a title that other texts do not contain by chance
LONG_ID = 6  # characters of an id, with a digit, that texts do not contain by chance
ID_SHARE = 0.01  # share of items whose text contains ids, from which on they are taken for generated
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Finding:
    """`count` of `total` cases (0 where it cannot be determined); `detail` describes them and why they matter. `alarm`:
    more than the training rows explain."""

    name: str
    count: int
    total: int
    detail: str
    alarm: bool = False


@dataclass(frozen=True, eq=False)
class FoldView:
    """One fold of a data set under a protocol. `users` has the user of each case, `places` where its target stands in
    the flat arrays."""

    dataset: Dataset
    made: SplitParts
    fold: EvaluationSplit
    name: str

    @property
    def users(self) -> np.ndarray:
        return self.fold.requests.users

    @property
    def places(self) -> np.ndarray:
        points = self.made.cut.test if self.name == "test" else self.made.cut.valid
        return self.dataset.sequences.offsets[points.users] + points.places

    def finding(self, name: str, hit: np.ndarray, detail: str, alarm: bool = False) -> Finding:
        """A finding on the cases; `hit` is bool, one a case."""
        return Finding(f"{self.name}_{name}", int(hit.sum()), len(self.users), f"{self.name} {detail}", alarm)


def on_fold(view: FoldView) -> Iterator[Finding]:
    """Everything that is counted for validation and test alike."""
    yield _ties(view)
    before = _had_before(view, np.arange(len(view.dataset.items)))
    yield view.finding(
        "in_history", before, "items that the user had before: taking out the history makes them impossible to hit"
    )
    if view.dataset.text is not None:
        yield _twins(view, view.dataset.text, before)
    cold = view.made.train.counts()[view.fold.targets.items] == 0
    yield view.finding("untrained", cold, "items that stand in no user's training part: only text can lead to them")
    cold = view.made.train.sequences.lengths[view.users] == 0
    yield view.finding("cold_users", cold, "users without a training part, who are evaluated all the same")
    yield _future(view)
    yield _copied(view)
    if view.dataset.text is not None:
        yield _named(view, view.dataset.text)


def on_text(dataset: Dataset) -> Iterator[Finding]:
    """Coverage and repetition of item text, and ids in it."""
    total = len(dataset.items)
    if dataset.text is None:
        yield Finding("without_text", total, total, "the source has no item text")
        return
    empty = sum(text.empty for text in dataset.text)
    yield Finding("without_text", empty, total, "items with no text at all")
    yield Finding("duplicate_titles", duplicated(dataset.text), total, "items whose title another has too")
    times = Counter(text for text in dataset.text if not text.empty)
    tied = sum(count for count in times.values() if count > 1)
    yield Finding("duplicate_texts", tied, total, "items whose whole text another has too: text cannot tell them apart")
    ids = {raw for raw in (*dataset.items, *dataset.users) if len(raw) >= LONG_ID and any(map(str.isdigit, raw))}
    name = sum(
        bool(ids.intersection(_WORD.findall(_all(text))) - {item})
        for item, text in zip(dataset.items, dataset.text, strict=True)
        if ids
    )
    detail = "items whose text holds the id of a user or of another item, such as a list of what was bought with it"
    yield Finding("ids_in_text", name, total, detail, alarm=name > ID_SHARE * total)


def exceeds_expected(count: int, total: int, natural: int, of: int) -> bool:
    """Whether `count` of `total` held-out cases is far more than `natural` of `of` training cases lets expect: five
    standard deviations of a Poisson count, and five cases at least.

    >>> exceeds_expected(14, 24_772, 31, 65_380), exceeds_expected(40, 24_772, 31, 65_380)
    (False, True)
    """
    expected = total * natural / max(of, 1)
    return count > expected + 5 * expected**0.5 + 5


def _ties(view: FoldView) -> Finding:
    if view.dataset.timestamps is None:
        detail = "the source states an order but no timestamps: ties cannot be told"
        return Finding(f"{view.name}_ties", 0, 0, detail)
    ties = view.dataset.timestamps[view.places] == view.dataset.timestamps[view.places - 1]
    return view.finding(
        "ties", ties, "items with the same timestamp as the item before: the tie rule decides their order"
    )


def _had_before(view: FoldView, kinds: np.ndarray) -> np.ndarray:
    """Whether an item of the target's kind comes before it in the user's sequence, however far; bool, shape (cases,).
    `kinds` numbers the items, int64 (n_items,), from 0."""
    rows = view.dataset.sequences
    keys = rows.rows() * (int(kinds.max(initial=0)) + 1) + kinds[rows.values]
    _, first, of = np.unique(keys, return_index=True, return_inverse=True)
    return first[of[view.places]] < view.places


def _twins(view: FoldView, text: tuple[ItemText, ...], before: np.ndarray) -> Finding:
    """Another id of what seems to be the same thing; `before`: the user had the very item."""
    titles = {entry.title.casefold(): item for item, entry in enumerate(text) if entry.title}
    kind = np.array([titles.get(entry.title.casefold(), item) for item, entry in enumerate(text)])
    twins = _had_before(view, kind) & ~before
    return view.finding("twin_in_history", twins, "items with the title of another item that the user had before")


def _future(view: FoldView) -> Finding:
    name = f"{view.name}_future"
    if view.dataset.timestamps is None:
        return Finding(name, 0, 0, "the source has no timestamps: what is later cannot be told")
    rows = view.dataset.sequences
    trained = rows.places() < np.repeat(view.made.cut.train, rows.lengths)
    latest = view.dataset.timestamps[trained].max(initial=-np.inf)
    early = view.dataset.timestamps[view.places] < latest
    detail = "items from before the latest training interaction: the model has seen other users' future"
    return view.finding("future", early, detail)


def _copied(view: FoldView) -> Finding:
    """Two records of one person, or a person's rows put into training under another name: the sequence, target and
    all, stands in another user's training part. Of a long sequence the latest `LONGEST_RUN` items count."""
    rows, train = view.dataset.sequences, view.made.train.sequences
    lengths = np.minimum(view.places - rows.offsets[view.users] + 1, LONGEST_RUN)
    hits = np.zeros(len(view.users), dtype=bool)
    for length in np.unique(lengths[lengths >= SHORTEST_RUN]).tolist():
        selected = np.flatnonzero(lengths == length)
        requested = _hashes(rows.values[view.places[selected, None] + np.arange(1 - length, 1)])
        hits[selected] = _elsewhere(requested, view.users[selected], train, length)
    alarm = exceeds_expected(int(hits.sum()), int((lengths >= SHORTEST_RUN).sum()), 1, COPIES_BY_CHANCE)
    detail = f"items that end a sequence of {SHORTEST_RUN} or more which another user's training part holds whole"
    return view.finding("copied", hits, detail, alarm)


def _elsewhere(requested: np.ndarray, users: np.ndarray, train: RaggedArray, length: int) -> np.ndarray:
    """Which of the runs `requested`, by hash, stand in the training part of a user other than their own; bool, (n,)."""
    owner = train.rows()
    if len(owner) < length:
        return np.zeros(len(requested), dtype=bool)
    total = owner[: len(owner) - length + 1] == owner[length - 1 :]
    known_mask = _hashes(np.lib.stride_tricks.sliding_window_view(train.values, length)[total])
    owners = owner[: len(owner) - length + 1][total]
    shared = np.isin(known_mask, requested)  # few: only these are looked at with their owners
    pairs, first = np.unique(_own(known_mask[shared], owners[shared]), return_index=True)
    runs, owned_by = np.unique(known_mask[shared][first], return_counts=True)
    if not len(runs):
        return np.zeros(len(requested), dtype=bool)
    place = np.minimum(np.searchsorted(runs, requested), len(runs) - 1)
    times = np.where(runs[place] == requested, owned_by[place], 0)
    return times > np.isin(_own(requested, users), pairs)


def _named(view: FoldView, texts: tuple[ItemText, ...]) -> Finding:
    """The text of the last item of the history names the target, by title or by id."""
    dataset, train = view.dataset, view.made.train.sequences
    bodies = [_all(text).casefold() for text in texts]
    titles = [text.title.casefold() for text in texts]
    telling = [len(title) >= LONG_TITLE and len(title.split()) >= WORDS for title in titles]
    ids = [raw.casefold() if len(raw) >= LONG_ID and any(map(str.isdigit, raw)) else "" for raw in dataset.items]

    def names(before: int, after: int) -> bool:
        if before == after or (titles[before] == titles[after]):
            return False
        by_title = telling[after] and titles[after] in bodies[before]
        return by_title or bool(ids[after] and ids[after] in bodies[before])

    last = dataset.sequences.values[view.places - 1].tolist()
    hits = np.array([names(*pair) for pair in zip(last, view.fold.targets.items.tolist(), strict=True)], dtype=bool)
    inside = np.flatnonzero(train.rows()[1:] == train.rows()[:-1])
    pairs = zip(train.values[inside].tolist(), train.values[inside + 1].tolist(), strict=True)
    natural = sum(names(*pair) for pair in pairs)
    alarm = exceeds_expected(int(hits.sum()), len(hits), natural, len(inside))
    return view.finding("named", hits, "items that the text of the item before names: the text holds the target", alarm)


def _hashes(windows: np.ndarray) -> np.ndarray:
    """uint64, shape (n,), of rows of ids, shape (n, length)."""
    mixed = np.zeros(len(windows), np.uint64)
    for column in windows.astype(np.uint64).T:
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + column + np.uint64(1)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _own(hashes: np.ndarray, users: np.ndarray) -> np.ndarray:
    """A hash of a run and its user together."""
    return (hashes ^ (users.astype(np.uint64) + np.uint64(1))) * np.uint64(0xD6E8FEB86659FD93)


def _all(text: ItemText) -> str:
    return " ".join((text.title, text.description, text.brand, *text.categories))


def canary(dataset: Dataset, protocol: Protocol) -> str:
    """What of a target reached a model, in words; empty where nothing did.

    Every interaction that is kept from training is replaced by another item, in two steps: those from the test targets
    on, then those from the validation targets on. The first must change no training part, no validation request and
    no history of the test; the second no training part and no validation request. Where a user has several cases, a
    history holds earlier targets: the first one of each user is compared, and for the others every interaction becomes
    an item of its own, so that a later one in a history shows itself.
    """
    if len(dataset.items) < 2:
        return ""
    split_parts, n_users = parts(dataset, protocol), len(dataset.users)
    test, valid = (points.firsts(n_users) for points in (split_parts.cut.test, split_parts.cut.valid))
    changed = parts(_planted(dataset, test), protocol)
    problems = _given(split_parts, changed)
    if _first_histories(split_parts.test) != _first_histories(changed.test):
        problems.append("the test histories")
    earliest = np.where(valid >= 0, valid, test)
    problems += [
        f"{message} (validation)" for message in _given(split_parts, parts(_planted(dataset, earliest), protocol))
    ]
    if protocol.rolling:
        problems += _later_targets(dataset, protocol)
    return f"targets reached {', '.join(problems)}" if problems else ""


def _planted(dataset: Dataset, places: np.ndarray) -> Dataset:
    """Every interaction from its user's place on becomes the next item of the catalogue; -1 leaves a user alone."""
    rows = dataset.sequences
    begins = np.where(places >= 0, rows.offsets[:-1] + places, rows.offsets[1:])
    later = np.arange(len(rows.values)) >= np.repeat(begins, rows.lengths)
    values = np.where(later, (rows.values + 1) % len(dataset.items), rows.values)
    return replace(dataset, sequences=RaggedArray(values, rows.offsets))


def _given(one: SplitParts, other: SplitParts) -> list[str]:
    results = []
    if one.train.fingerprint != other.train.fingerprint:
        results.append("the training part")
    if _first_histories(one.valid) != _first_histories(other.valid):
        results.append("the validation histories")
    return results


def _first_histories(fold: EvaluationSplit) -> tuple[bytes, bytes, bytes]:
    """The users and the history of the first case of each."""
    users, rows = np.unique(fold.requests.users, return_index=True)
    histories = fold.requests.histories.take(rows)
    return users.tobytes(), histories.values.tobytes(), histories.offsets.tobytes()


def _later_targets(dataset: Dataset, protocol: Protocol) -> list[str]:
    """Folds in which a history holds its target or what follows it, found on a copy of the data whose items are the
    numbers of their interactions."""
    total = dataset.interactions
    interaction_data = Dataset(
        dataset.name,
        dataset.users,
        tuple(map(str, range(total))),
        RaggedArray(np.arange(total), dataset.sequences.offsets),
        dataset.timestamps,
    )
    split_parts, begins = parts(interaction_data, protocol), dataset.sequences.offsets
    results = []
    for name, fold in (("test", split_parts.test), ("validation", split_parts.valid)):
        histories, rows = fold.requests.histories, fold.requests.histories.rows()
        inside = histories.values < fold.targets.items[rows]
        inside &= histories.values >= begins[fold.requests.users[rows]]
        if not inside.all():
            results.append(f"the {name} histories of later cases")
    return results

"""Detects external lists that look like re-ranked sampled candidates with the target among them.

Such lists contain their target by construction, so that their metrics do not measure a ranking of the catalogue. A
ranking does not know the target, which gives two criteria if nearly every list contains it:

- Similar lists belong to similar users, so that each should contain the other's target as well, unless its user has it
  already. Inserted targets do not: the rest of the list is only as good as the sampler.
- A ranking gives similar users similar lists. Sampled candidates have no more items in common than random samples.

Candidates that were truncated, or that were ranked as well as the target, cannot be detected.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.evaluation.metrics import incidence, rows_of, seen
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.requests import Requests, Targets

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LISTS = 20  # fewer lists prove nothing
SHARE = 0.75  # of the items that a user has not had: longer lists hold most targets anyway
HELD = 0.99  # of the lists hold their target
LOWER, BEYOND = 0.05, 5  # so many targets in the lower half, so many times those that are missed: no ranking ends so
NEIGHBOUR = 0.5  # at least, of an honest model's lists that all hold their own target, hold the most similar list's
ALPHA = 0.01
ALIKE, CLOSER = 1.15, 0.25  # rankings are this much more alike than draws, and this much nearer to being the same
ROOM = 0.8  # draws that are more alike than this prove nothing
ASKED, OTHERS = 400, 2000  # lists that are compared, with how many others: large sets are sampled evenly
SEED = 1


@dataclass(frozen=True)
class Candidates:
    """`lists` that are not empty, `held` of them with their target, `lower` of these in the lower half. Only where
    nearly all hold it: `neighbour`, the share of lists that hold the target of the most similar list of another user
    (with another target, which this user has not had); `likeness`, the mean share of its items that a list has in
    common with its most similar one, and `random_likeness`, the same for lists drawn at random with the items' own
    frequencies."""

    lists: int
    held: int
    lower: int
    neighbour: float | None = None
    likeness: float | None = None
    random_likeness: float | None = None
    alarm: str = ""

    def document(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def look_for_candidates(predictions: Predictions, requests: Requests, targets: Targets, n_items: int) -> Candidates:
    """`predictions` are the lists as they were given, not cut; `targets` are aligned with `requests`, which hold the
    same cases. Items of the history are left out before anything is counted, unless they are the target."""
    target_items = targets.items[rows_of(targets.cases, predictions.cases)]
    is_target = predictions.items == target_items[:, None]
    listed = (predictions.items != NO_ITEM) & (is_target | ~seen(predictions, requests))
    lengths = listed.sum(axis=1)
    places = np.where(
        is_target.any(axis=1), np.cumsum(listed, axis=1)[np.arange(len(is_target)), is_target.argmax(axis=1)], 0
    )
    lists, hits = int((lengths > 0).sum()), int((places > 0).sum())
    candidates = Candidates(lists, hits, lower=int((places > (lengths + 1) // 2).sum()))
    own_rows = rows_of(requests.cases, predictions.cases)
    histories = requests.histories.take(own_rows)
    names = incidence(histories.rows(), histories.values, (len(histories), n_items))
    room = n_items - names.sum(axis=1)
    if lists < LISTS or hits < HELD * lists or np.median((lengths / room)[lengths > 0]) > SHARE:
        return candidates
    rows = np.flatnonzero((places > 0) & (lengths > 1))
    if len(rows) < LISTS:
        return candidates
    rest = _membership(np.where(listed & ~is_target, predictions.items, NO_ITEM), n_items)
    requested, neighbours = (
        rows[np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(int)] for limit in (ASKED, OTHERS)
    )
    has_value = _hold_neighbours(rest, names, requested, neighbours, target_items)
    users = requests.users[own_rows]
    own_pair = users[requested][:, None] == users[neighbours]
    likeness = _likeness(rest, requested, neighbours, own_pair)
    sample = _drawn(rest, requested, neighbours, n_items)
    random = _likeness(sample, np.arange(len(requested)), len(requested) + np.arange(len(neighbours)), own_pair)
    similar, chance = float(likeness.mean()), float(random.mean())
    alarm = _alarm(candidates, has_value, similar, chance)
    return replace(candidates, neighbour=float(has_value.mean()), likeness=similar, random_likeness=chance, alarm=alarm)


def _alarm(candidates: Candidates, has_value: np.ndarray, likeness: float, random: float) -> str:
    from scipy.stats import binom

    head = f"{candidates.held:,} of {candidates.lists:,} lists hold the target of their user"
    tail = "as candidates do that were drawn with the target among them, not rankings of the catalogue"
    spread = candidates.lower >= max(BEYOND * (1 + candidates.lists - candidates.held), LOWER * candidates.lists)
    if spread and binom.cdf(has_value.sum(), len(has_value), NEIGHBOUR) < ALPHA:
        reason = (
            f"{candidates.lower:,} of them in their lower half, and {has_value.mean():.0%} that of the most "
            f"similar list's user"
        )
        return f"{head}, {reason}: {tail}"
    if random <= ROOM and likeness <= min(ALIKE * random, random + CLOSER * (1 - random)):
        return f"{head}, and beside it no more items in common than lists drawn at random: {tail}"
    return ""


def _membership(items: np.ndarray, n_items: int) -> csr_array:
    """Which items each list has: float32, shape (lists, n_items)."""
    row, place = np.nonzero(items != NO_ITEM)
    return incidence(row, items[row, place], (len(items), n_items))


def _hold_neighbours(
    rest: csr_array, names: csr_array, requested: np.ndarray, neighbours: np.ndarray, target_items: np.ndarray
) -> np.ndarray:
    """Whether each list of `requested` holds the target of the most similar one of `others`, bool. The two targets are
    left out of both lists before they are compared (by Jaccard's index), so that neither makes a pair more or less
    similar; users with the same target are not compared, nor with those whose target is in the history."""
    rows, neighbour_rows = rest[requested], rest[neighbours]
    common = (rows @ neighbour_rows.T).toarray()
    own_hits, hits = (
        rows[:, target_items[neighbours]].toarray(),
        neighbour_rows[:, target_items[requested]].toarray().T,
    )
    sizes = rows.sum(axis=1)[:, None] - own_hits + neighbour_rows.sum(axis=1) - hits
    index = common / np.maximum(1, sizes - common)
    index[
        (target_items[requested][:, None] == target_items[neighbours])
        | (names[requested][:, target_items[neighbours]].toarray() > 0)
    ] = -1
    return own_hits[np.arange(len(requested)), index.argmax(axis=1)] > 0


def _likeness(rest: csr_array, requested: np.ndarray, neighbours: np.ndarray, same_user: np.ndarray) -> np.ndarray:
    """The share of its items that each list of `requested` has in common with the one of `others` that has most of
    them; `own` marks the pairs of one user's lists."""
    common = (rest[requested] @ rest[neighbours].T).toarray()
    common[same_user] = 0
    return common.max(axis=1) / np.maximum(1, rest[requested].sum(axis=1))


def _drawn(rest: csr_array, requested: np.ndarray, neighbours: np.ndarray, n_items: int) -> csr_array:
    """As many lists of the same lengths, their items drawn without replacement by how many lists have them: those of
    `requested` and then those of `others`, where a list that is both is drawn twice."""
    rng = np.random.default_rng(SEED)
    counts = np.asarray(rest.sum(axis=0)).ravel()
    pool = np.flatnonzero(counts)
    lengths = np.asarray(rest.sum(axis=1)).ravel()[np.concatenate([requested, neighbours])].astype(int)
    items = np.full((len(lengths), max(1, int(lengths.max()))), NO_ITEM)
    for n, length in enumerate(lengths):  # Gumbel's trick: the largest of log weight + noise
        keys = np.log(counts[pool]) + rng.gumbel(size=len(pool))
        items[n, :length] = pool[np.argpartition(-keys, length - 1)[:length]] if length else []
    return _membership(items, n_items)

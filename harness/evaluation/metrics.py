"""Metrics of validated lists by ranx; the only module that calls ranx.

Each case has one relevant item, so that Recall@k is 1 if it is among the first k, NDCG@k is 1 / log2(1 + rank), and
MRR@10 is 1 / rank. The metrics of a case depend only on that rank: ranx scores one list for each rank, and every case
gets the values of its rank. ranx gets new arrays with scores by rank (it sorts ties unstably and modifies its input).

Also here: counts of defects in ranked lists, `without_history` for `protocol.exclude_history`, the fusion of lists, and
metrics over codes instead of items, as in work that counts a colliding code as a hit; nothing is ranked by them.

A lower bound of what they add follows from the item index alone. A code of g items does not say which one is meant, so
that a list of codes puts the target at each of the g positions of its code equally often. With the target's code at
position r, behind codes of one item each, a metric m over codes is m(r), over items (m(r) + ... + m(r + g - 1)) / g on
average. Codes of several items before it only move the target further down.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse

from harness.errors import InvalidPredictions
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.protocol import DEPTH, METRICS
from harness.protocol.requests import Requests, Targets

ANY_ITEM = int(np.iinfo(np.int64).max)  # ids are checked against the catalogue where the catalogue is known
PRIVATE = "_ranx_metrics"  # where our copies of modules of `ranx.metrics` stand in sys.modules
RELEVANT = 1  # the id, and the relevance, of the relevant item in the lists that ranx is given
FUNCTIONS = {
    "recall": "recall",
    "ndcg": "ndcg",
    "mrr": "reciprocal_rank",
    "hit": "hit_rate",
    "map": "average_precision",
}
FUSION = 60  # of reciprocal rank fusion, as in its paper
CHUNK = 4096  # lists compared at once, few enough to stay in a core's cache
ENOUGH = 10  # codes that a list must hold for its code-level metrics at 10 to be exact


def compute_metrics(predictions: Predictions, targets: Targets) -> dict[str, float]:
    """Mean of each metric over the cases of `targets`; keys are `METRICS`. Raises as `per_user` does."""
    return {name: float(values.mean()) for name, values in per_user(predictions, targets).items()}


def per_user(predictions: Predictions, targets: Targets, names: Sequence[str] = METRICS) -> dict[str, np.ndarray]:
    """Each metric a case, float64, shape (cases,), aligned with `targets.cases`; keys are `names`, each one of
    `FUNCTIONS` and a K. Raises `InvalidPredictions` where cases are missing, repeated or not requested, where a list
    names an item twice, or where there is no case at all."""
    if not len(targets.cases):
        raise InvalidPredictions("there is no user to measure")
    if problems := predictions.problems(targets.cases, ANY_ITEM):
        raise InvalidPredictions(f"these lists cannot be measured: {'; '.join(problems)}")
    places = _places(predictions.items[rows_of(predictions.cases, targets.cases)], targets.items)
    by_place = outcomes(predictions.items.shape[1], names)
    return {name: values[places] for name, values in by_place.items()}


def _places(items: np.ndarray, target_items: np.ndarray) -> np.ndarray:
    """Where each list has its user's relevant item, from 0; the list's width where it has not."""
    result = items == target_items[:, None]
    return np.where(result.any(axis=1), result.argmax(axis=1), items.shape[1])


def outcomes(width: int, names: Sequence[str] = METRICS) -> dict[str, np.ndarray]:
    """Each metric by ranx for each place that the relevant item can have in a list of `width` items, and for none."""
    lists = np.stack([np.arange(width) + 2.0, np.arange(width, 0, -1)], axis=-1)[None].repeat(width + 1, axis=0)
    lists[np.arange(width), np.arange(width), 0] = RELEVANT
    qrels = np.full((width + 1, 1, 2), float(RELEVANT))
    parts = {name: name.partition("@") for name in names}
    return {name: _ranx()[FUNCTIONS[metric]](qrels, lists, k=int(k)) for name, (metric, _, k) in parts.items()}


@cache
def _ranx() -> Mapping[str, Callable[..., np.ndarray]]:
    """ranx's metric functions by name, run by the interpreter: numba would compile each of them for seconds, where
    there are no more lists to score than a list has places. Their modules are loaded beside the package `ranx`, whose
    own functions stay compiled for whoever imports it, and whose other imports (plots, statistics) take seconds too."""
    import numba.typed
    from numba.core import config

    assert numba.typed.List  # what those modules name of numba loads now, before it is told not to compile

    switches: Any = config
    spec = find_spec("ranx")
    assert spec is not None and spec.submodule_search_locations is not None, "ranx is a dependency"
    package = ModuleType(PRIVATE)
    package.__path__ = [f"{place}/metrics" for place in spec.submodule_search_locations]
    sys.modules[PRIVATE] = package
    jit = switches.DISABLE_JIT  # what numba reads from NUMBA_DISABLE_JIT
    switches.DISABLE_JIT = 1
    try:
        return {name: getattr(import_module(f"{PRIVATE}.{name}"), name) for name in FUNCTIONS.values()}
    finally:
        switches.DISABLE_JIT = jit


def rows_of(cases: np.ndarray, requested: np.ndarray) -> np.ndarray:
    """The row in `cases`, which are distinct, of each of `requested`, which are among them."""
    order = np.argsort(cases, kind="stable")
    return order[np.searchsorted(cases[order], requested)]


def incidence(row: np.ndarray, item: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """1 where a row has an item, else 0: float32, `shape` (rows, n_items). A repeated pair counts once."""
    pairs = np.unique(row * shape[1] + item)
    ones = np.ones(len(pairs), dtype=np.float32)
    return sparse.csr_array((ones, (pairs // shape[1], pairs % shape[1])), shape=shape)


def without_history(predictions: Predictions, requests: Requests, depth: int) -> Predictions:
    """The lists without items of the user's history, closed up and cut to `depth`; they are never topped up. Raises as
    `seen` does."""
    return predictions.kept((predictions.items != NO_ITEM) & ~seen(predictions, requests)).first(depth)


def seen(predictions: Predictions, requests: Requests) -> np.ndarray:
    """Which listed items stand in the history that their user's request shows: bool, shape of `predictions.items`.
    Raises `InvalidPredictions` where a case of the lists was not requested."""
    if len(extra := np.setdiff1d(predictions.cases, requests.cases)):
        raise InvalidPredictions(f"{len(extra)} lists were not requested")
    rows = rows_of(requests.cases, predictions.cases)
    result = np.zeros(predictions.items.shape, dtype=bool)
    for begin in range(0, len(rows), CHUNK):
        part = slice(begin, begin + CHUNK)
        histories, listed = requests.histories.take(rows[part]), predictions.items[part]
        for place in range(int(histories.lengths.max(initial=0))):
            has_value = np.flatnonzero(histories.lengths > place)
            result[part][has_value] |= listed[has_value] == histories.values[histories.offsets[has_value] + place, None]
    return result & (predictions.items >= 0)


def count_list_defects(
    predictions: Predictions, requests: Requests, depth: int, n_items: int = ANY_ITEM
) -> dict[str, int]:
    """Counts over the lists that were given for `requests`, cut to `depth`: `users_expected` requested, `users_scored`
    of them ranked; `short` users with fewer than `depth` items; `invalid` entries that are no item (a negative id that
    is not `NO_ITEM`, and from `n_items` on); `duplicate` entries that repeat an earlier one of their list; `seen`
    entries that stand in the history that the request shows."""
    requested = np.isin(predictions.cases, requests.cases)
    parts = (predictions.cases[requested], predictions.items[requested], predictions.scores[requested])
    lists = Predictions(*parts).first(depth)
    ordered = np.sort(lists.items, axis=1)
    return {
        "users_expected": len(requests),
        "users_scored": len(np.unique(lists.cases)),
        "short": int((lists.lengths < depth).sum()),
        "invalid": int(((lists.items < NO_ITEM) | (lists.items >= n_items)).sum()),
        "duplicate": int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)).sum()),
        "seen": int(seen(lists, requests).sum()),
    }


def fuse(lists: Sequence[Predictions], depth: int) -> Predictions:
    """Reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): lists of at most `depth` items; an item's score
    is the sum of 1 / (60 + rank) over `lists`, whose cases are equal. Equal scores by item id."""
    listed = np.concatenate([one.items for one in lists], axis=1)
    rank = np.concatenate([np.arange(1.0, one.items.shape[1] + 1) for one in lists])
    row, column = np.nonzero(listed != NO_ITEM)
    total = sparse.coo_array((1 / (FUSION + rank[column]), (row, listed[row, column])))
    total.sum_duplicates()
    row, item = total.coords
    order = np.lexsort((item, np.negative(total.data), row))
    place = np.arange(len(row)) - np.searchsorted(row[order], row[order])
    order, place = order[place < depth], place[place < depth]
    return Predictions.of_entries(lists[0].cases, (row[order], place), item[order], total.data[order], depth)


def code_level(predictions: Predictions, targets: Targets, groups: np.ndarray) -> dict[str, Any]:
    """JSON-able. `groups` int64 (n_items,) numbers the items' codes. `collision_rate` is the share of items whose code
    another item has too, `affected_targets` the same of `targets`. `code_level` are the protocol's metrics where a hit
    is an item with the target's code, a code counting once, at its first place; `code_level_delta` is what that adds to
    the metrics over items. `cut_lists` counts lists of fewer codes than `ENOUGH`, for which both figures are least
    values. Raises `InvalidPredictions` for groups of another catalogue."""
    largest = max(predictions.items.max(initial=NO_ITEM), targets.items.max(initial=NO_ITEM))
    if groups.ndim != 1 or largest >= len(groups):
        raise InvalidPredictions(f"code groups {groups.shape} do not cover the items that were listed and requested")
    shared = np.bincount(groups)[groups] > 1
    codes = as_codes(predictions, groups)
    over_items = compute_metrics(predictions, targets)
    over_codes = compute_metrics(codes, Targets(targets.cases, groups[targets.items]))
    listed = np.minimum(predictions.lengths, ENOUGH)
    return {
        "collision_rate": float(shared.mean()),
        "affected_targets": float(shared[targets.items].mean()),
        "code_level": over_codes,
        "code_level_delta": {name: over_codes[name] - value for name, value in over_items.items()},
        "cut_lists": int((codes.lengths < listed).sum()),
    }


def as_codes(predictions: Predictions, groups: np.ndarray) -> Predictions:
    """Lists of code numbers, each code at its first place, without gaps."""
    items = predictions.items
    codes = np.where(items == NO_ITEM, NO_ITEM, groups[items])
    order = np.argsort(codes, axis=1, kind="stable")
    ranked = np.take_along_axis(codes, order, axis=1)
    repeated = np.zeros_like(codes, dtype=bool)
    np.put_along_axis(repeated, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    return Predictions(predictions.cases, codes, predictions.scores).kept((codes != NO_ITEM) & ~repeated)


def shared_targets(groups: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """How many of `targets` (item ids, shape (n,)) have a code that another item has too; `groups` int64 (n_items,)
    numbers the items' codes. `share` is 0 without targets."""
    shared = (np.bincount(groups) > 1)[groups][targets]
    share = float(shared.mean()) if len(shared) else 0.0
    return {"targets": len(shared), "shared": int(shared.sum()), "share": share}


def least_added(groups: np.ndarray, targets: np.ndarray) -> dict[str, dict[str, float]]:
    """For each of `METRICS`, what scoring codes adds at least on these `targets` (item ids, shape (n,), at least one).
    `at_first_place`: added to a model that names the code of every target first; one minus this is the most that any
    ranking of codes can reach over items. `least_share`: the part of a code-level score that the item-level score
    lacks, the least over all places of targets' codes, if shared codes are found as often as others."""
    sizes, times = np.unique(np.bincount(groups)[groups][targets], return_counts=True)
    entries = {}
    for name, values in outcomes(DEPTH).items():
        gained = values[:DEPTH]
        sums = np.concatenate([[0.0], np.cumsum(gained)])
        places = np.flatnonzero(gained > 0)
        last = np.minimum(places[:, None] + sizes, DEPTH)
        expected = ((sums[last] - sums[places][:, None]) / sizes) @ times / len(targets)
        dropped = 1 - expected / gained[places]
        entries[name] = {"at_first_place": _zero(gained[0] - expected[0]), "least_share": _zero(dropped.min())}
    return entries


def _zero(value: float) -> float:
    """What rounding alone has left is nothing."""
    return 0.0 if abs(value) < 1e-12 else float(value)

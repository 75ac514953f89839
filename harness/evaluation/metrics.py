"""Metrics of validated lists by ranx; the only module that calls ranx.

Each case has one relevant item, so that Recall@k is 1 if it is among the first k, NDCG@k is 1 / log2(1 + rank), and
MRR@10 is 1 / rank. The metrics of a case depend only on that rank: ranx scores one list for each rank, and every case
gets the values of its rank. ranx gets new arrays with scores by rank (it sorts ties unstably and modifies its input).
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

from harness.errors import InvalidPredictions
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import METRICS
from harness.protocol.requests import Targets

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


def compute_metrics(predictions: Predictions, targets: Targets) -> dict[str, float]:
    """Mean of each metric over the cases of `targets`; keys are `METRICS`. Raises as `per_user` does."""
    return {name: float(values.mean()) for name, values in per_user(predictions, targets).items()}


def per_user(predictions: Predictions, targets: Targets, names: Sequence[str] = METRICS) -> dict[str, np.ndarray]:
    """Each metric a case, float64, shape (cases,), aligned with `targets.cases`; keys are `names`, each one of
    `FUNCTIONS` and a K.

    Raises `InvalidPredictions` where cases are missing, asked twice or not asked for, where a list names an item twice,
    or where there is no case at all: such lists have no score, not even a low one.
    """
    if not len(targets.cases):
        raise InvalidPredictions("there is no user to measure")
    if problems := predictions.problems(targets.cases, ANY_ITEM):
        raise InvalidPredictions(f"these lists cannot be measured: {'; '.join(problems)}")
    places = _places(predictions.items[_rows(predictions.cases, targets.cases)], targets.items)
    by_place = outcomes(predictions.items.shape[1], names)
    return {name: values[places] for name, values in by_place.items()}


def _places(items: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Where each list has its user's relevant item, from 0; the list's width where it has not."""
    result = items == answers[:, None]
    return np.where(result.any(axis=1), result.argmax(axis=1), items.shape[1])


def outcomes(width: int, names: Sequence[str] = METRICS) -> dict[str, np.ndarray]:
    """Each metric by ranx for each place that the relevant item can have in a list of `width` items, and for none."""
    ranx = _ranx()
    lists = np.arange(width) + 2.0
    lists = np.stack([lists, np.arange(width, 0, -1)], axis=-1)[None].repeat(width + 1, axis=0)
    lists[np.arange(width), np.arange(width), 0] = RELEVANT
    qrels = np.full((width + 1, 1, 2), float(RELEVANT))
    scores = {}
    for name in names:
        metric, _, k = name.partition("@")
        scores[name] = ranx[FUNCTIONS[metric]](qrels, lists, k=int(k))
    return scores


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


def _rows(value: np.ndarray, requested: np.ndarray) -> np.ndarray:
    """Where each of `requested` stands in `value`; both hold the same distinct cases."""
    order = np.argsort(value, kind="stable")
    return order[np.searchsorted(value[order], requested)]

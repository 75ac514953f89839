"""The only place that calls ranx: validated lists and known answers in, the protocol's metrics out.

Each user has one relevant item, so Recall@k is 1 where it is among the first k, NDCG@k is 1 / log2(1 + its rank), and
MRR@10 is 1 / its rank. ranx gets fresh arrays whose scores are made from the rank (it sorts ties unstably and edits
what it is given), and a short list gets an id that nobody owns behind its end.
"""

from __future__ import annotations

import numpy as np

from harness.errors import ContractError
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import METRICS
from harness.protocol.requests import Targets

ANY_ITEM = int(np.iinfo(np.int64).max)  # ids are checked against the catalogue where the catalogue is known
FUNCTIONS = {"recall": "recall", "ndcg": "ndcg", "mrr": "reciprocal_rank"}


def measure(predictions: Predictions, targets: Targets) -> dict[str, float]:
    """Mean of each metric over the users of `targets`; keys are `METRICS`. Raises as `per_user` does."""
    return {name: float(values.mean()) for name, values in per_user(predictions, targets).items()}


def per_user(predictions: Predictions, targets: Targets) -> dict[str, np.ndarray]:
    """Each metric a user, float64, shape (users,), aligned with `targets.users`; keys are `METRICS`.

    Raises `ContractError` where users are missing, asked twice or not asked for, where a list names an item twice, or
    where there is no user at all: such lists have no score, not even a low one.
    """
    if not len(targets.users):
        raise ContractError("there is no user to measure")
    if found := predictions.problems(targets.users, ANY_ITEM):
        raise ContractError(f"these lists cannot be measured: {'; '.join(found)}")
    import ranx.metrics

    qrels, run = _qrels(targets.items), _run(predictions.items[_rows(predictions.users, targets.users)])
    scores = {}
    for name in METRICS:
        metric, _, k = name.partition("@")
        function = getattr(ranx.metrics, FUNCTIONS[metric])
        scores[name] = function(qrels, run, k=int(k))
    return scores


def _rows(given: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Where each of `asked` stands in `given`; both hold the same distinct users."""
    order = np.argsort(given, kind="stable")
    return order[np.searchsorted(given[order], asked)]


def _qrels(items: np.ndarray) -> np.ndarray:
    """(users, 1, 2): the relevant item and its relevance, 1."""
    return np.stack([items, np.ones(len(items))], axis=-1)[:, None, :].astype(np.float64)


def _run(items: np.ndarray) -> np.ndarray:
    """(users, k, 2): items best first (`NOBODY` is -1, no target's id) with strictly falling scores."""
    falling = np.broadcast_to(np.arange(items.shape[1], 0, -1), items.shape)
    return np.stack([items, falling], axis=-1).astype(np.float64)

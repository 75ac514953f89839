"""`protocol.exclude_history`: takes the items of the history out of every model's list, in one place for all models."""

from __future__ import annotations

import numpy as np

from harness.errors import ContractError
from harness.protocol.predictions import NOBODY, Predictions
from harness.protocol.requests import Requests

CHUNK = 4096  # lists compared at once, few enough to stay in a core's cache


def without_history(predictions: Predictions, requests: Requests, depth: int) -> Predictions:
    """The lists without items of the user's history, closed up and cut to `depth`; they are never topped up.

    Raises `ContractError` where a user of the lists was not asked for.
    """
    kept = (predictions.items != NOBODY) & ~seen(predictions, requests)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :depth]
    listed = np.take_along_axis(kept, order, axis=1)
    items = np.where(listed, np.take_along_axis(predictions.items, order, axis=1), NOBODY)
    scores = np.where(listed, np.take_along_axis(predictions.scores, order, axis=1), 0.0)
    return Predictions(predictions.users, items, scores)


def seen(predictions: Predictions, requests: Requests) -> np.ndarray:
    """Which listed items stand in the history that their user's request shows: bool, shape of `predictions.items`.

    Raises `ContractError` where a user of the lists was not asked for.
    """
    if len(extra := np.setdiff1d(predictions.users, requests.users)):
        raise ContractError(f"lists of {len(extra)} users who were not asked for")
    order = np.argsort(requests.users, kind="stable")
    rows = order[np.searchsorted(requests.users[order], predictions.users)]
    found = np.zeros(predictions.items.shape, dtype=bool)
    for begin in range(0, len(rows), CHUNK):
        part = slice(begin, begin + CHUNK)
        histories, listed = requests.histories.take(rows[part]), predictions.items[part]
        for place in range(int(histories.lengths.max(initial=0))):
            has = np.flatnonzero(histories.lengths > place)
            found[part][has] |= listed[has] == histories.values[histories.offsets[has] + place, None]
    return found & (predictions.items >= 0)

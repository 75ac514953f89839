"""`protocol.exclude_history`: takes the items of the history out of every model's list, in one place for all models."""

from __future__ import annotations

import numpy as np

from harness.errors import ContractError
from harness.protocol.predictions import NOBODY, Predictions
from harness.protocol.requests import Requests


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
    """Which listed items stand in the history that their user's request shows: bool, shape of `predictions.items`."""
    if len(extra := np.setdiff1d(predictions.users, requests.users)):
        raise ContractError(f"lists of {len(extra)} users who were not asked for")
    width = 1 + max(predictions.items.max(initial=0), requests.histories.values.max(initial=0))
    histories = requests.users[requests.histories.rows()] * width + requests.histories.values
    return np.isin(predictions.users[:, None] * width + predictions.items, histories) & (predictions.items >= 0)

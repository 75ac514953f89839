"""Counts of defects in ranked lists for the run's record, and `protocol.exclude_history`.

`without_history` removes the items of the history from the lists of every model.
"""

from __future__ import annotations

import numpy as np

from harness.errors import InvalidPredictions
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.requests import Requests

CHUNK = 4096  # lists compared at once, few enough to stay in a core's cache


def without_history(predictions: Predictions, requests: Requests, depth: int) -> Predictions:
    """The lists without items of the user's history, closed up and cut to `depth`; they are never topped up.

    Raises `InvalidPredictions` where a case of the lists was not asked for.
    """
    saved = (predictions.items != NO_ITEM) & ~seen(predictions, requests)
    order = np.argsort(~saved, axis=1, kind="stable")[:, :depth]
    listed = np.take_along_axis(saved, order, axis=1)
    items = np.where(listed, np.take_along_axis(predictions.items, order, axis=1), NO_ITEM)
    scores = np.where(listed, np.take_along_axis(predictions.scores, order, axis=1), 0.0)
    return Predictions(predictions.cases, items, scores)


def seen(predictions: Predictions, requests: Requests) -> np.ndarray:
    """Which listed items stand in the history that their user's request shows: bool, shape of `predictions.items`.

    Raises `InvalidPredictions` where a case of the lists was not asked for.
    """
    if len(extra := np.setdiff1d(predictions.cases, requests.cases)):
        raise InvalidPredictions(f"{len(extra)} lists were not asked for")
    order = np.argsort(requests.cases, kind="stable")
    rows = order[np.searchsorted(requests.cases[order], predictions.cases)]
    result = np.zeros(predictions.items.shape, dtype=bool)
    for begin in range(0, len(rows), CHUNK):
        part = slice(begin, begin + CHUNK)
        histories, listed = requests.histories.take(rows[part]), predictions.items[part]
        for place in range(int(histories.lengths.max(initial=0))):
            has_value = np.flatnonzero(histories.lengths > place)
            result[part][has_value] |= listed[has_value] == histories.values[histories.offsets[has_value] + place, None]
    return result & (predictions.items >= 0)


def count_list_defects(
    predictions: Predictions, requests: Requests, depth: int, n_items: int | None = None
) -> dict[str, int]:
    """Counts over the lists that were given for `requests`, cut to `depth`.

    `users_expected` asked, `users_scored` answered among them; `short` users with fewer than `depth` items; `invalid`
    entries that are no item (a negative id that is not `NOBODY`, and from `n_items` on where it is given); `duplicate`
    entries that repeat an earlier one of their list; `seen` entries that stand in the history that the request shows.
    """
    requested = np.isin(predictions.cases, requests.cases)
    current_predictions = Predictions(
        predictions.cases[requested], predictions.items[requested, :depth], predictions.scores[requested, :depth]
    )
    unknown = current_predictions.items < NO_ITEM
    if n_items is not None:
        unknown |= current_predictions.items >= n_items
    ordered = np.sort(current_predictions.items, axis=1)
    return {
        "users_expected": len(requests),
        "users_scored": len(np.unique(current_predictions.cases)),
        "short": int((current_predictions.lengths < depth).sum()),
        "invalid": int(unknown.sum()),
        "duplicate": int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)).sum()),
        "seen": int(seen(current_predictions, requests).sum()),
    }

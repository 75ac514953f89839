"""The audit of lists as counts: what a run's record says beside its metrics."""

from __future__ import annotations

import numpy as np

from harness.evaluation.history import seen
from harness.protocol.predictions import NOBODY, Predictions
from harness.protocol.requests import Requests


def audit(predictions: Predictions, requests: Requests, depth: int, n_items: int | None = None) -> dict[str, int]:
    """Counts over the lists that were given for `requests`, cut to `depth`.

    `users_expected` asked, `users_scored` answered among them; `short` users with fewer than `depth` items; `invalid`
    entries that are no item (a negative id that is not `NOBODY`, and from `n_items` on where it is given); `duplicate`
    entries that repeat an earlier one of their list; `seen` entries that stand in the history that the request shows.
    """
    asked = np.isin(predictions.users, requests.users)
    shown = Predictions(predictions.users[asked], predictions.items[asked, :depth], predictions.scores[asked, :depth])
    unknown = shown.items < NOBODY
    if n_items is not None:
        unknown |= shown.items >= n_items
    ordered = np.sort(shown.items, axis=1)
    return {
        "users_expected": len(requests),
        "users_scored": len(np.unique(shown.users)),
        "short": int((shown.lengths < depth).sum()),
        "invalid": int(unknown.sum()),
        "duplicate": int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NOBODY)).sum()),
        "seen": int(seen(shown, requests).sum()),
    }

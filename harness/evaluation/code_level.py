"""What scoring codes instead of items would say: the flattering metric of work in which a colliding code is a hit.

Only ever recorded beside the metrics, as the difference to them; nothing is ranked by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.errors import ContractError
from harness.evaluation.metrics import measure
from harness.protocol.predictions import NOBODY, Predictions
from harness.protocol.requests import Targets

ENOUGH = 10  # codes that a list must hold for its code-level metrics at 10 to be exact


def code_level(predictions: Predictions, targets: Targets, groups: np.ndarray) -> dict[str, Any]:
    """JSON-able. `groups` int64 (n_items,) numbers the items' codes.

    `collision_rate` is the share of items whose code another item has too, `affected_targets` the same of `targets`.
    `code_level` are the protocol's metrics where a hit is an item with the target's code, a code counting once, at its
    first place; `code_level_delta` is what that adds to the metrics over items. A list of items may hold fewer codes
    than it is asked to be long: `cut_lists` counts those with fewer than `ENOUGH`, for which both figures are least
    values. Raises `ContractError` for groups of another catalogue.
    """
    if groups.ndim != 1 or max(predictions.items.max(initial=NOBODY), targets.items.max(initial=NOBODY)) >= len(groups):
        raise ContractError(f"code groups {groups.shape} do not cover the items that were listed and asked for")
    shared = np.bincount(groups)[groups] > 1
    codes = as_codes(predictions, groups)
    over_items = measure(predictions, targets)
    over_codes = measure(codes, Targets(targets.users, groups[targets.items]))
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
    codes = np.where(items == NOBODY, NOBODY, groups[items])
    order = np.argsort(codes, axis=1, kind="stable")
    ranked = np.take_along_axis(codes, order, axis=1)
    repeated = np.zeros_like(codes, dtype=bool)
    np.put_along_axis(repeated, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    kept = (codes != NOBODY) & ~repeated
    places = np.argsort(~kept, axis=1, kind="stable")
    kept, codes, scores = (np.take_along_axis(a, places, axis=1) for a in (kept, codes, predictions.scores))
    return Predictions(predictions.users, np.where(kept, codes, NOBODY), np.where(kept, scores, 0.0))

"""What scoring codes instead of items adds to a metric, from the item index alone, for any model that ranks codes.

A code of g items says nothing of which of them is meant. A list of codes therefore becomes a list of items by naming
the items of each code in an order that does not look at the target, which puts the target at each of the g places of
its code equally often. With the target's code at place r, behind codes of one item each, a metric m that counts codes
gives m(r), one that counts items (m(r) + ... + m(r + g - 1)) / g on average. Codes of several items before it only move
the target further down, so the difference is the least that scoring codes adds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.evaluation.metrics import outcomes
from harness.protocol.protocol import DEPTH


def shared_targets(groups: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """How many of `targets` (item ids, shape (n,)) have a code that another item has too; `groups` int64 (n_items,)
    numbers the items' codes. `share` is 0 without targets."""
    shared = (np.bincount(groups) > 1)[groups][targets]
    share = float(shared.mean()) if len(shared) else 0.0
    return {"targets": len(shared), "shared": int(shared.sum()), "share": share}


def least_added(groups: np.ndarray, targets: np.ndarray) -> dict[str, dict[str, float]]:
    """For each of `METRICS`, what scoring codes adds at least on these `targets` (item ids, shape (n,), at least one).

    `at_first_place`: added to a model that names the code of every target first. It scores 1 over codes, so one minus
    this is the most that any ranking of codes can reach over items. `least_share`: the part of a code-level score that
    the item-level score lacks, wherever targets' codes stand in the lists (the least over all places), if shared codes
    are found as often as others.
    """
    sizes, times = np.unique(np.bincount(groups)[groups][targets], return_counts=True)
    found = {}
    for name, values in outcomes(DEPTH).items():
        gained = values[:DEPTH]
        sums = np.concatenate([[0.0], np.cumsum(gained)])
        places = np.flatnonzero(gained > 0)
        last = np.minimum(places[:, None] + sizes, DEPTH)
        expected = ((sums[last] - sums[places][:, None]) / sizes) @ times / len(targets)
        lost = 1 - expected / gained[places]
        found[name] = {"at_first_place": _zero(gained[0] - expected[0]), "least_share": _zero(lost.min())}
    return found


def _zero(value: float) -> float:
    """What rounding alone has left is nothing."""
    return 0.0 if abs(value) < 1e-12 else float(value)

"""`harness bench index`: a tree of item codes, our balanced k-means against the same by the textbook's loop.

Both give one code an item; the codes must be equal, without exception. `parts.both` has the seconds of the trees of two
sources, whose codes must be equal whenever they are made. `parts.repaired` shows another usual way for the
first level, scikit-learn's k-means made equal in size afterwards: its seconds, and how much farther from their centres
its items are.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np

from harness.bench.timing import Options, Outcome, Side, paired
from harness.errors import InputError

SUBJECT = "eager.bench"  # reached by its name, as the registry reaches models
ITEMS, FEWER, MOST = 10_000, 3_300, 65_536


def measure(options: Options) -> Outcome:
    """`--items` of the catalogue."""
    items = options.items or ITEMS
    if not 512 <= items <= MOST:
        raise InputError(f"{items} items", where="--items", hint=f"give 512 to {MOST}: 256 children, two levels")
    trees = import_module(SUBJECT).trees(items, options.seed)
    timed = paired(
        Side("balanced k-means", trees.ours, items),
        Side("balanced k-means, one point at a time", trees.textbook, items),
        rounds=options.rounds,
        warm=False,
    )
    own_value, reference = timed.made
    start_time = time.perf_counter()
    repaired = trees.repaired()
    seconds = time.perf_counter() - start_time
    inertia = trees.inertia(own_value[:, 0])
    sizes = np.bincount(own_value[:, 0])
    both = {str(n): _both(n, options) for n in ((FEWER, ITEMS) if options.items is None else (items,))}
    return Outcome(
        "index",
        "items",
        bool((own_value == reference).all()) and all(one["equal_for_equal_seeds"] for one in both.values()),
        timed,
        {"items": items, "seed": options.seed},
        {
            "codes_that_differ": int((own_value != reference).any(axis=1).sum()),
            "distinct_codes": len(np.unique(own_value, axis=0)),
            "largest_and_smallest_cluster": [int(sizes.max()), int(sizes.min())],
        },
        {
            "both": both,
            "repaired": {
                "seconds": seconds,
                "inertia": trees.inertia(repaired) / inertia,
                "distinct_codes": "first level only",
            },
        },
    )


def _both(items: int, options: Options) -> dict[str, Any]:
    """The trees of two sources, made anew each round."""
    seconds, results = [], []
    for _ in range(options.rounds):
        value = import_module(SUBJECT).trees(items, options.seed)
        start_time = time.perf_counter()
        results.append(value.both())
        seconds.append(time.perf_counter() - start_time)
    same = all(np.array_equal(results[0], other) for other in results[1:])
    return {"median_seconds": float(np.median(seconds)), "seconds": seconds, "equal_for_equal_seeds": same}

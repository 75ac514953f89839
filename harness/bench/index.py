"""`harness bench index`: item codes by balanced k-means trees, against the same algorithm one point at a time.

Codes must be equal and unique. `parts.both` has the seconds of the trees of two sources, whose codes must be equal in
every round. `parts.repaired` is the alternative of balancing scikit-learn's k-means afterwards, for the first level:
its seconds, and its inertia relative to balanced k-means.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np

from harness.bench.timing import Options, Outcome, Side, paired
from harness.errors import InputError

SUBJECT = "eager.bench"  # imported by name, like the models of the registry
ITEMS, FEWER_ITEMS, MAX_ITEMS = 10_000, 3_300, 65_536


def measure(options: Options) -> Outcome:
    """Runs the benchmark over `options.items` items."""
    items = options.items or ITEMS
    if not 512 <= items <= MAX_ITEMS:
        raise InputError(f"{items} items", where="--items", hint=f"give 512 to {MAX_ITEMS}: 256 children, two levels")
    trees = import_module(SUBJECT).trees(items, options.seed)
    timed = paired(
        Side("balanced k-means", trees.balanced, items),
        Side("balanced k-means, one point at a time", trees.reference, items),
        rounds=options.rounds,
        warm=False,
    )
    codes, reference = timed.results
    start_time = time.perf_counter()
    repaired = trees.repaired()
    seconds = time.perf_counter() - start_time
    inertia = trees.inertia(codes[:, 0])
    sizes = np.bincount(codes[:, 0])
    both = {str(n): _both(n, options) for n in ((FEWER_ITEMS, ITEMS) if options.items is None else (items,))}
    return Outcome(
        "index",
        "items",
        bool((codes == reference).all()) and all(one["equal_for_equal_seeds"] for one in both.values()),
        timed,
        {"items": items, "seed": options.seed},
        {
            "codes_that_differ": int((codes != reference).any(axis=1).sum()),
            "distinct_codes": len(np.unique(codes, axis=0)),
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
    """The trees of two sources, built anew in each round."""
    seconds, results = [], []
    for _ in range(options.rounds):
        value = import_module(SUBJECT).trees(items, options.seed)
        start_time = time.perf_counter()
        results.append(value.both())
        seconds.append(time.perf_counter() - start_time)
    same = all(np.array_equal(results[0], other) for other in results[1:])
    return {"median_seconds": float(np.median(seconds)), "seconds": seconds, "equal_for_equal_seeds": same}

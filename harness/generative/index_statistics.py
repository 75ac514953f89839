"""How healthy an index is: collisions, use and entropy of each level, how prefixes branch, and who is affected.

One description for all: a run's record holds it, `harness index build` and `harness index inspect` print it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.generative.item_codes import CodeTable

COLLISIONS = 0.01  # share of items that share a code, above which an index is warned of


def inspect(table: CodeTable, targets: np.ndarray | None = None) -> dict[str, Any]:
    """JSON-able. `collision_rate` is the share of items whose code another item has too, `groups` the number of codes
    that are shared, `biggest_group` the most items of one code (1 where all are unique). `targets`, item ids of test
    cases, adds `affected_targets`: the share of them that a code cannot tell from another item."""
    _, inverse, counts = np.unique(table.digits, axis=0, return_inverse=True, return_counts=True)
    shared = counts[inverse.reshape(-1)] > 1
    found: dict[str, Any] = {
        "fingerprint": table.fingerprint,
        "items": table.n_items,
        "codes": len(counts),
        "collision_rate": float(shared.mean()),
        "groups": int((counts > 1).sum()),
        "biggest_group": int(counts.max()),
        "levels": [_level(table, level) for level in range(table.levels)],
    }
    if targets is not None:
        found["affected_targets"] = float(shared[targets].mean()) if len(targets) else 0.0
    return found


def warnings(found: dict[str, Any]) -> list[str]:
    """What in an inspection deserves a word, one line each."""
    lines = []
    if (rate := found["collision_rate"]) > COLLISIONS:
        lines.append(
            f"{rate:.1%} of the items share their code with another (the biggest group has {found['biggest_group']}): "
            "such items can only be listed together"
        )
    for number, level in enumerate(found["levels"], start=1):
        if level["used"] == 1 and found["items"] > 1:
            lines.append(f"level {number} has the same token for all items: it says nothing")
    return lines


def _level(table: CodeTable, level: int) -> dict[str, Any]:
    """`used` tokens of `size`, `entropy` of their use in bits (at most log2(size)), `prefixes` that reach this level's
    tokens (distinct codes cut off behind it) and `fanout`: children of a prefix of the level before, mean and most."""
    size = table.sizes[level]
    counts = np.bincount(table.digits[:, level], minlength=size)
    share = counts[counts > 0] / counts.sum()
    prefixes = np.unique(table.digits[:, : level + 1], axis=0)
    if level:
        _, children = np.unique(prefixes[:, :-1], axis=0, return_counts=True)
    else:
        children = np.array([len(prefixes)])
    return {
        "size": size,
        "used": int((counts > 0).sum()),
        "entropy": float(-(share * np.log2(share)).sum()) + 0.0,
        "prefixes": len(prefixes),
        "fanout": {"mean": float(children.mean()), "most": int(children.max())},
    }

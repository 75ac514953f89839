"""The metrics again, in plain Python and without ranx: what `measure` must agree with."""

from __future__ import annotations

import math


def oracle(lists: list[list[int]], targets: list[int]) -> dict[str, float]:
    """`lists[n]` is best first, of any length."""
    ranks = [
        items.index(target) + 1 if target in items else math.inf for items, target in zip(lists, targets, strict=True)
    ]
    n = len(ranks)
    metrics = {}
    for k in (1, 5, 10, 20):
        hits = [rank for rank in ranks if rank <= k]
        metrics[f"recall@{k}"] = len(hits) / n
        metrics[f"ndcg@{k}"] = sum(1 / math.log2(1 + rank) for rank in hits) / n
    metrics["mrr@10"] = sum(1 / rank for rank in ranks if rank <= 10) / n
    return metrics

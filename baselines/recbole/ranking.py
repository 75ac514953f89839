"""The best of dense scores, equal scores by item id: without sorting a whole catalogue for each user."""

from __future__ import annotations

import numpy as np
import torch


def best(scores: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Items (int64) and scores (float32) of the `k` best of each row, shape (n, min(k, n_items)).

    Says the same as a stable sort of the whole row, which only rows with a tie at the end of their list still need.
    """
    k = min(k, scores.shape[1])
    values, items = scores.topk(k, dim=1)
    values, items = values.numpy(), items.numpy()
    order = np.lexsort((items, -values), axis=1)
    items, values = np.take_along_axis(items, order, axis=1), np.take_along_axis(values, order, axis=1)
    for row in np.flatnonzero((scores.numpy() >= values[:, -1:]).sum(axis=1) > k):
        full = scores[row].numpy()
        items[row] = np.argsort(-full, kind="stable")[:k]
        values[row] = full[items[row]]
    return items, values

"""Short ranked lists from sparse scores, without a dense users by items table. Shared by the sanity baselines."""

from __future__ import annotations

import numpy as np

from harness.protocol.predictions import NOBODY

CHUNK = 4096  # users handled at once: bounds memory, changes no number


def by_popularity(counts: np.ndarray) -> np.ndarray:
    """All items, most counted first, equal counts in item order: int64, shape (n_items,)."""
    return np.argsort(-counts, kind="stable")


def first_of_each(rows: np.ndarray, n_rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the first `k` entries of each row stand, for entries grouped by ascending `rows`.

    Gives the kept entries (indices) and the column of each.
    """
    starts = np.searchsorted(rows, np.arange(n_rows))
    columns = np.arange(len(rows)) - starts[rows]
    kept = np.flatnonzero(columns < k)
    return kept, columns[kept]


def fill_up(items: np.ndarray, scores: np.ndarray, ranking: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of positive scores, shape (n, m), filled up to `k` from one `ranking`, without repeats.

    Filled-in places score below all others: 0, -1, -2, … by place in the ranking. `NOBODY` stays only where the ranking
    is too short.
    """
    width = min(k + items.shape[1], len(ranking))  # enough: at most m of them can repeat
    spare = np.broadcast_to(ranking[:width], (len(items), width))
    repeats = (spare[:, :, None] == items[:, None, :]).any(axis=2)
    joined = np.concatenate([items, np.where(repeats, NOBODY, spare)], axis=1)
    scored = np.concatenate([scores, np.broadcast_to(-np.arange(width, dtype=np.float64), spare.shape)], axis=1)
    order = np.argsort(joined == NOBODY, axis=1, kind="stable")[:, :k]
    listed = np.take_along_axis(joined, order, axis=1)
    return listed, np.where(listed == NOBODY, 0.0, np.take_along_axis(scored, order, axis=1))

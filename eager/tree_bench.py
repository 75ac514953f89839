"""What `harness bench index` measures: a tree of item codes, ours and by the textbook, and k-means beside them."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np

from eager import balanced_kmeans, tree
from harness.core.seeding import generator

K, HEIGHT = 256, 2  # the paper's
WIDTH, GROUPS = 384, 400  # MiniLM's dimensions


@dataclass(frozen=True, eq=False)
class Trees:
    """Codes (items, height) by both ways, first digits by plain k-means, and the inertia of first digits: the sum of
    items' squared distances to the mean of those that share the digit."""

    ours: Callable[[], np.ndarray]
    textbook: Callable[[], np.ndarray]
    repaired: Callable[[], np.ndarray]
    inertia: Callable[[np.ndarray], float]
    both: Callable[[], np.ndarray]


def trees(n_items: int, seed: int) -> Trees:
    """Over vectors of items that come in groups of unequal size."""
    vectors, others = _drawn(n_items, seed, "tree"), _drawn(n_items, seed, "another")

    def ours(of: np.ndarray = vectors) -> np.ndarray:
        return tree.tree_codes(of, K, HEIGHT, order="clustered", seed=seed)

    def both() -> np.ndarray:
        return np.concatenate([ours(vectors), ours(others)], axis=1)

    def textbook() -> np.ndarray:
        """The same tree, its assignments by the textbook's loop."""
        with (
            patch.object(balanced_kmeans, "assign_with_sizes", by_turns),
            patch.object(tree, "assign_with_sizes", by_turns),
        ):
            return ours()

    def inertia(digits: np.ndarray) -> float:
        sums, counts = np.zeros((K, WIDTH)), np.bincount(digits, minlength=K)
        np.add.at(sums, digits, vectors)
        return float(((vectors - (sums / np.maximum(counts, 1)[:, None])[digits]) ** 2).sum())

    return Trees(ours, textbook, lambda: _repaired(vectors, seed), inertia, both)


def _drawn(n_items: int, seed: int, name: str) -> np.ndarray:
    rng = generator(seed, "bench", name)
    group = (GROUPS * rng.random(n_items) ** 2).astype(np.int64)
    return (rng.normal(size=(GROUPS, WIDTH))[group] + 0.7 * rng.normal(size=(n_items, WIDTH))).astype(np.float32)


def by_turns(distances: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Deferred acceptance as Gale & Shapley (1962) tell it: one point after another asks the next on its list."""
    wishes, asked = np.argsort(distances, axis=1, kind="stable").tolist(), [0] * len(distances)
    held: list[list[tuple[float, int]]] = [[] for _ in sizes]
    free = list(range(len(distances)))
    while free:
        point = free.pop()
        cluster = wishes[point][asked[point]]
        asked[point] += 1
        insort(held[cluster], (float(distances[point, cluster]), point))
        if len(held[cluster]) > sizes[cluster]:
            free.append(held[cluster].pop()[1])
    found = np.zeros(len(distances), dtype=np.int64)
    for cluster, points in enumerate(held):
        found[[point for _, point in points]] = cluster
    return found


def _repaired(vectors: np.ndarray, seed: int) -> np.ndarray:
    """First digits by scikit-learn's k-means, made equal in size afterwards: the nearest pairs first, while there is
    room."""
    from sklearn.cluster import KMeans

    fitted = KMeans(min(K, len(vectors)), n_init="auto", random_state=seed % 2**32).fit(vectors)
    distances = balanced_kmeans.squared_distances(vectors, fitted.cluster_centers_.astype(np.float32))
    room = balanced_kmeans.balanced_sizes(len(vectors), distances.shape[1]).tolist()
    digits = np.full(len(vectors), -1)
    for pair in np.argsort(distances, axis=None, kind="stable").tolist():
        point, cluster = divmod(pair, distances.shape[1])
        if digits[point] < 0 and room[cluster]:
            digits[point] = cluster
            room[cluster] -= 1
    return digits

"""Balanced k-means: clusters of given sizes, every point in exactly one.

The paper's implementation lets clusters, in random order, pick the points that rank them highest. Here a pass assigns
by deferred acceptance instead: each point asks for its nearest cluster that has not refused it, each cluster keeps the
nearest points up to its size. The result does not depend on an order of visits, no point and cluster would both rather
have each other, and a pass is a handful of array operations.
"""

from __future__ import annotations

import numpy as np

MAX_PASSES = 50


def balanced_sizes(points: int, clusters: int) -> np.ndarray:
    """Cluster sizes that differ by at most one and add up to `points`, the larger ones first."""
    return np.full(clusters, points // clusters) + (np.arange(clusters) < points % clusters)


def balanced_kmeans(
    vectors: np.ndarray, clusters: int, rng: np.random.Generator, max_passes: int = MAX_PASSES
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster of each point, int64 (n,), and the centres (clusters, dim); sizes as `balanced_sizes`.

    `vectors` is (n, dim), float32. Squared Euclidean distance; equal distances go to the lower number.
    """
    n = len(vectors)
    sizes = balanced_sizes(n, clusters)
    centres = _spread_centres(vectors, clusters, rng)
    assigned = np.full(n, -1)
    for _ in range(max_passes):
        previous = assigned
        assigned = assign_with_sizes(squared_distances(vectors, centres), sizes)
        if (assigned == previous).all():
            break
        sums = np.zeros_like(centres, dtype=np.float64)
        np.add.at(sums, assigned, vectors)
        filled = np.bincount(assigned, minlength=clusters)
        centres = np.where(filled[:, None] > 0, sums / np.maximum(filled, 1)[:, None], centres).astype(np.float32)
    return assigned, centres


def assign_with_sizes(distances: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """A stable assignment of n points to clusters with `sizes` places; `distances` is (n, clusters).

    Deferred acceptance (Gale & Shapley 1962). Needs `sizes.sum() >= n`.
    """
    n, clusters = distances.shape
    if sizes.sum() < n:
        raise ValueError(f"{n} points do not fit {int(sizes.sum())} places")
    preference = np.argsort(distances, axis=1, kind="stable")
    asked = np.zeros(n, dtype=np.int64)  # how many clusters each point has asked so far, less one
    while True:
        wish = preference[np.arange(n), asked]
        # Order by cluster, then by distance: the first `size` of each cluster stay, the others ask their next one.
        order = np.lexsort((np.arange(n), distances[np.arange(n), wish], wish))
        begins = np.searchsorted(wish[order], np.arange(clusters))
        place = np.arange(n) - begins[wish[order]]
        refused = order[place >= sizes[wish[order]]]
        if not len(refused):
            return wish
        asked[refused] += 1


def squared_distances(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, float64, shape (n, clusters)."""
    products = vectors.astype(np.float64) @ centres.astype(np.float64).T
    return (vectors.astype(np.float64) ** 2).sum(1)[:, None] - 2 * products + (centres.astype(np.float64) ** 2).sum(1)


def _spread_centres(vectors: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur & Vassilvitskii 2007): each next centre with a chance that grows with its squared distance."""
    chosen = [int(rng.integers(len(vectors)))]
    nearest = squared_distances(vectors, vectors[chosen])[:, 0].clip(min=0)
    for _ in range(clusters - 1):
        total = nearest.sum()
        chances = nearest / total if total > 0 else None
        chosen.append(int(rng.choice(len(vectors), p=chances)))
        nearest = np.minimum(nearest, squared_distances(vectors, vectors[chosen[-1:]])[:, 0].clip(min=0))
    return vectors[chosen].astype(np.float32)

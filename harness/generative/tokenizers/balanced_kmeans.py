"""Balanced k-means: clusters of given sizes, every point in exactly one.

The paper's implementation lets clusters, in random order, pick the points that rank them highest. Here a pass assigns
by deferred acceptance instead: each point asks its nearest cluster that has not refused it, each cluster keeps the
nearest points up to its size. The result does not depend on an order of visits, and no point and cluster would both
rather have each other.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

MAX_PASSES = 50
TOLERANCE = 1e-4  # the least share of the inertia that a pass must save for another one to be worth it
FEW = 0.15  # share of the points from which on the refused ask one by one, which is cheaper than a round of all


def balanced_sizes(points: int, clusters: int) -> np.ndarray:
    """Cluster sizes that differ by at most one and add up to `points`, the larger ones first."""
    return np.full(clusters, points // clusters) + (np.arange(clusters) < points % clusters)


def balanced_kmeans(
    vectors: np.ndarray, clusters: int, rng: np.random.Generator, max_passes: int = MAX_PASSES
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster of each point, int64 (n,), and the clusters' means, float32 (clusters, dim); sizes as `balanced_sizes`.

    `vectors` is (n, dim), float32, with at least `clusters` rows. Squared Euclidean distance; equal distances go to the
    lower number. Ends when a pass moves nothing, when passes no longer pay (`TOLERANCE`), or after `max_passes`.
    """
    n = len(vectors)
    sizes, norms = balanced_sizes(n, clusters), np.einsum("nd,nd->n", vectors, vectors)
    centres = _spread_centres(vectors, norms, clusters, rng)
    assigned, last_inertia = np.full(n, -1), np.inf
    for _ in range(max_passes):
        previous, assigned = assigned, assign_with_sizes(squared_distances(vectors, centres, norms), sizes)
        centres = _means(vectors, assigned, sizes)
        # Σ|x - c|² = Σ|x|² - Σ s |c|² where c is the mean of its s points
        inertia = float(norms.sum(dtype=np.float64) - (sizes * np.einsum("kd,kd->k", centres, centres)).sum())
        if (assigned == previous).all() or last_inertia - inertia < TOLERANCE * last_inertia < np.inf:
            break
        last_inertia = inertia
    return assigned, centres


def assign_with_sizes(distances: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """A stable assignment of n points to clusters with `sizes` places (1 at least); finite `distances` (n, clusters).

    Deferred acceptance (Gale & Shapley 1962), whose result is the same in whatever order points ask: all refused points
    at once while they are many, then one by one. What a full cluster likes least only ever gets nearer to it, so that a
    point passes over the clusters that would refuse it now. Needs `sizes.sum() >= n`.
    """
    n = len(distances)
    if sizes.sum() < n:
        raise ValueError(f"{n} points do not fit {int(sizes.sum())} places")
    points, choices = np.arange(n), distances.argmin(axis=1)
    cost, minimum = distances[points, choices], _CandidateHeap.of(len(sizes))
    while True:
        # Order by cluster, then by distance, then by number: the first `size` of each cluster stay.
        order = np.lexsort((cost, choices))
        counts = np.bincount(choices, minlength=len(sizes))
        begins = np.cumsum(counts) - counts
        refused = order[points - begins[choices[order]] >= sizes[choices[order]]]
        full = np.flatnonzero(counts >= sizes)
        last = order[begins[full] + sizes[full] - 1]
        minimum.cost[full], minimum.point[full] = cost[last], last
        if len(refused) <= FEW * n:
            return _ask_one_by_one(distances, choices, cost, sizes, refused, minimum)
        open_to = minimum.open_to(distances[refused], refused[:, None])
        choices[refused], cost[refused] = open_to.argmin(axis=1), open_to.min(axis=1)


@dataclass(frozen=True, eq=False)
class _CandidateHeap:
    """The point that each full cluster likes least and its distance (infinite where there is room), (clusters,)."""

    cost: np.ndarray
    point: np.ndarray

    @classmethod
    def of(cls, clusters: int) -> _CandidateHeap:
        return cls(np.full(clusters, np.inf), np.full(clusters, -1))

    def open_to(self, distances: np.ndarray, point: np.ndarray | int) -> np.ndarray:
        """Distances of points to the clusters that would take them, infinite to the others."""
        takes = (distances < self.cost) | ((distances == self.cost) & (point < self.point))
        return np.where(takes, distances, np.inf)


def _ask_one_by_one(
    distances: np.ndarray,
    choices: np.ndarray,
    cost: np.ndarray,
    sizes: np.ndarray,
    refused: np.ndarray,
    minimum: _CandidateHeap,
) -> np.ndarray:
    """The rest of the asking. A cluster's points stand in a heap whose first is the one that it likes least."""
    inside = np.setdiff1d(np.arange(len(choices)), refused)
    inside = inside[np.lexsort((-inside, -cost[inside], choices[inside]))]  # a sorted list is a heap
    cuts = np.searchsorted(choices[inside], np.arange(len(sizes) + 1)).tolist()
    pairs = list(zip((-cost[inside]).tolist(), (-inside).tolist(), strict=True))
    values = [pairs[begin:end] for begin, end in pairwise(cuts)]
    waiting = refused.tolist()
    while waiting:
        point = waiting.pop()
        open_to = minimum.open_to(distances[point], point)
        cluster = int(open_to.argmin())
        choices[point], heap = cluster, values[cluster]
        asking = (-float(open_to[cluster]), -point)
        if len(heap) < sizes[cluster]:
            heapq.heappush(heap, asking)
        else:
            waiting.append(-heapq.heappushpop(heap, asking)[1])
        if len(heap) == sizes[cluster]:
            minimum.cost[cluster], minimum.point[cluster] = -heap[0][0], -heap[0][1]
    return choices


def squared_distances(vectors: np.ndarray, centres: np.ndarray, norms: np.ndarray | None = None) -> np.ndarray:
    """Squared Euclidean distances in the type of `vectors`, shape (n, clusters); `norms` are those of the vectors,
    squared, where they are known."""
    squares = np.einsum("nd,nd->n", vectors, vectors) if norms is None else norms
    distances = vectors @ (-2 * centres.T)
    distances += squares[:, None]
    distances += np.einsum("kd,kd->k", centres, centres)
    return distances


def _means(vectors: np.ndarray, assigned: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mean of each cluster, all of which hold `sizes` > 0 points."""
    order = np.argsort(assigned, kind="stable")
    sums = np.add.reduceat(vectors[order], np.concatenate([[0], np.cumsum(sizes)[:-1]]), axis=0)
    return (sums / sizes[:, None]).astype(np.float32)


def _spread_centres(vectors: np.ndarray, norms: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur & Vassilvitskii 2007): each next centre with a chance that grows with the squared distance to
    the nearest one before it."""
    chosen = [int(rng.integers(len(vectors)))]
    closest = np.full(len(vectors), np.inf, dtype=vectors.dtype)
    while len(chosen) < clusters:
        distances = squared_distances(vectors, vectors[chosen[-1:]], norms)[:, 0].clip(min=0)
        closest = np.minimum(closest, distances)
        closest[chosen[-1]] = 0
        bounds = np.cumsum(closest, dtype=np.float64)
        if bounds[-1] == 0:  # fewer distinct points than clusters: the other centres are any points
            rest = np.setdiff1d(np.arange(len(vectors)), chosen)
            chosen += rng.permutation(rest)[: clusters - len(chosen)].tolist()
        else:
            sample = int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))
            chosen.append(min(sample, len(vectors) - 1))
    return vectors[chosen]

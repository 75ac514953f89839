"""Item codes by k-means, without a network: residual k-means (`rqkmeans`) and optimised product quantisation (`opq`).

Residual k-means clusters the vectors, then what each level leaves of them; balanced, its clusters differ in size by at
most one, as in OneRec (arXiv 2502.18965). OPQ (Ge et al., CVPR 2013) rotates the vectors and clusters each slice of
their dimensions apart, so that the tokens of a code have no order: the codes of RPG (arXiv 2506.05781) and VQ-Rec.

Compared with RPG's released code, which trains FAISS on the items of the training sequences: all items take part here,
because codes read item text alone and a text is no interaction.

Balanced k-means has clusters of given sizes, every point in exactly one. A pass assigns by deferred acceptance: each
point asks its nearest cluster that has not refused it, each cluster keeps the nearest points up to its size.
"""

from __future__ import annotations

import heapq
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from harness.core.seeding import derive_seed, generator
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.base import CodebookConfig, TextCodeTokenizer
from harness.protocol.context import RunContext

VERSION = "kmeans-index/1"
FIRST_PASSES, PASSES = 40, 4  # of k-means before the first rotation, and between two: those of FAISS
MAX_PASSES = 50
TOLERANCE = 1e-4  # the least share of the inertia that a pass must save for another one to be worth it
FEW = 0.15  # share of the points from which on the refused ask one by one, which is cheaper than a round of all


class KMeansTokenizer(TextCodeTokenizer):
    """Base: codes of text vectors, which a subclass quantises."""

    stream: str = Field(default="kmeans", min_length=1, description="name of the random stream, derived from the seed")

    @abstractmethod
    def quantise(self, vectors: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Digits, int64 (n_items, levels), and the vectors that they stand for, in the space of `prepared`."""

    def prepared(self, vectors: np.ndarray) -> np.ndarray:
        """What is quantised, float32 (n_items, dim)."""
        return vectors.astype(np.float32)

    version: ClassVar[str] = VERSION

    def digits(self, vectors: Sequence[np.ndarray], context: RunContext) -> tuple[np.ndarray, dict[str, Any]]:
        """Measures too the share of the vectors' variance that codes do not explain."""
        points = self.prepared(vectors[0])
        digits, decoded = self.quantise(points, derive_seed(context.seed, self.stream))
        shared = CodeTable(digits, (self.size,) * self.levels).collisions()
        error, variance = (
            np.square(points - other, dtype=np.float64).sum() for other in (decoded, points.mean(axis=0))
        )
        unexplained = float(error / max(variance, 1e-12))
        return digits, {"collisions_before": len(shared) / len(digits), "unexplained_variance": unexplained}


class RQKMeansTokenizer(KMeansTokenizer):
    """Residual k-means: each level clusters what the levels before it leave of the vectors."""

    kind: Literal["rqkmeans"] = "rqkmeans"
    levels: int = Field(default=4, ge=1, le=16, description="codebooks, tokens of a code")
    balanced: bool = Field(default=False, description="clusters of a level differ in size by at most one")
    passes: int = Field(default=50, ge=1, description="of a level's k-means, at most")
    stream: str = Field(default="rqkmeans", min_length=1, description="name of the random stream")

    def quantise(self, vectors: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        residual, digits = vectors.copy(), []
        for level in range(self.levels):
            if self.balanced:
                rng, clusters = generator(seed, level), min(self.size, len(vectors))
                digit, centres = balanced_kmeans(residual, clusters, rng, self.passes)
            else:
                digit, centres = kmeans(residual, self.size, self.passes, derive_seed(seed, level))
            residual -= centres[digit]
            digits.append(digit)
        return np.column_stack(digits).astype(np.int64), vectors - residual


class OPQConfig(CodebookConfig):
    """Settings of OPQ codes: of the tokenizer, and of a method's section `index`."""

    levels: int = Field(default=32, ge=1, le=64, description="slices of the rotated vectors, tokens of a code")
    pca: int = Field(
        default=128, ge=0, description="whitened principal components that are quantised; 0: the vectors as they are"
    )
    rotations: int = Field(default=20, ge=0, description="times that the rotation is fitted; 0: product quantisation")


class OPQTokenizer(OPQConfig, KMeansTokenizer):
    """Optimised product quantisation: rotation and codebooks in turn, each the best for the other."""

    kind: Literal["opq"] = "opq"
    passes: int = Field(default=25, ge=1, description="of the k-means behind the last rotation, at most")
    stream: str = Field(default="opq", min_length=1, description="name of the random stream")

    def prepared(self, vectors: np.ndarray) -> np.ndarray:
        """Centred or whitened, with columns of zeros up to a multiple of `levels`: a rotation spreads the rest."""
        points = (vectors - vectors.mean(axis=0)).astype(np.float32)
        if self.pca:
            from sklearn.decomposition import PCA

            count = max(1, min(self.pca, len(points) - 1, points.shape[1]))
            points = PCA(count, whiten=True, svd_solver="full").fit_transform(points).astype(np.float32)
        return np.pad(points, ((0, 0), (0, -points.shape[1] % self.levels)))

    def quantise(self, vectors: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        dim = vectors.shape[1]
        rotation = np.eye(dim, dtype=np.float32)
        if self.rotations:
            gauss = generator(seed, "rotation").normal(size=(dim, dim))
            rotation = np.linalg.qr(gauss)[0].astype(np.float32)
        books: list[np.ndarray | None] = [None] * self.levels
        for turn in range(self.rotations):
            passes = PASSES if turn else FIRST_PASSES
            _, decoded, books = self._slices(vectors @ rotation, books, passes, seed)
            u, _, right = np.linalg.svd(vectors.T @ decoded)  # the nearest rotation (orthogonal Procrustes)
            rotation = (u @ right).astype(np.float32)
        digits, decoded, _ = self._slices(vectors @ rotation, books, self.passes, seed)
        return digits, decoded @ rotation.T

    def _slices(
        self, rotated: np.ndarray, books: list[np.ndarray | None], passes: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray | None]]:
        """k-means of each slice from the centres `books`: digits, decoded vectors, centres."""
        digits, decoded, centres = [], [], []
        for level, part in enumerate(np.split(rotated, self.levels, axis=1)):
            digit, book = kmeans(part, self.size, passes, derive_seed(seed, level), books[level])
            digits.append(digit)
            decoded.append(book[digit])
            centres.append(book)
        return np.column_stack(digits).astype(np.int64), np.hstack(decoded), centres


def kmeans(
    vectors: np.ndarray, clusters: int, passes: int, seed: int, centres: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's k-means from `centres`, or from k-means++: cluster of each vector, int64 (n,), and the clusters' means
    (clusters, dim). Fewer than `clusters` centres where there are fewer distinct vectors. In one thread: the sums of
    several would differ from run to run."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    start: Any = "k-means++" if centres is None else centres
    count = min(clusters, len(np.unique(vectors, axis=0))) if centres is None else len(centres)
    model = KMeans(count, init=start, n_init="auto", max_iter=passes, tol=0, random_state=seed % (1 << 32))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal vectors: some clusters stay empty
        digits = model.fit_predict(np.ascontiguousarray(vectors))
    return digits.astype(np.int64), model.cluster_centers_.astype(np.float32)


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
    cost = distances[points, choices]
    minimum = _CandidateHeap(np.full(len(sizes), np.inf), np.full(len(sizes), -1))
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

    def open_to(self, distances: np.ndarray, point: np.ndarray | int) -> np.ndarray:
        """Distances of points to the clusters that would take them, infinite to the others."""
        is_better = (distances < self.cost) | ((distances == self.cost) & (point < self.point))
        return np.where(is_better, distances, np.inf)


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
    selected = [int(rng.integers(len(vectors)))]
    closest = np.full(len(vectors), np.inf, dtype=vectors.dtype)
    while len(selected) < clusters:
        distances = squared_distances(vectors, vectors[selected[-1:]], norms)[:, 0].clip(min=0)
        closest = np.minimum(closest, distances)
        closest[selected[-1]] = 0
        bounds = np.cumsum(closest, dtype=np.float64)
        if bounds[-1] == 0:  # fewer distinct points than clusters: the other centres are any points
            rest = np.setdiff1d(np.arange(len(vectors)), selected)
            selected += rng.permutation(rest)[: clusters - len(selected)].tolist()
        else:
            sample = int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))
            selected.append(min(sample, len(vectors) - 1))
    return vectors[selected]

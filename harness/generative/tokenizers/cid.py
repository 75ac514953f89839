"""Collaborative codes (CID): recursive spectral clustering of the co-occurrence graph, as in P5-CID (Hua et al.,
SIGIR-AP 2023, arXiv 2305.06569).

Two items are joined by the number of training sequences' places at which both stand. Spectral clustering of this graph
gives the first token; each cluster of more than `leaf` items is clustered again, on its own part of the graph, for the
next one. The last token tells the items of a cluster that is not split apart, so that no two items share a code.

Departures from the released code: tokens belong to a level instead of one ring of `leaf` tokens for all; codes have
equal length (a cluster that is not split gets a token that says so); the last token is an item's own, or with
`leaf_tokens=shared` its number in the cluster, by a hash of the raw ids instead of a random draw; items without
neighbours, which there have a last token alone, are a cluster of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
from pydantic import BaseModel, Field
from scipy import sparse
from scipy.linalg import polar, qr
from scipy.sparse.linalg import eigsh
from sklearn.cluster import KMeans

from harness.core.seeding import derive_seed, generator
from harness.data.dataset import CanonicalOrder
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.base import ItemIndex, Tokenizer, Vectors, places_in_group
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

VERSION = "cid/1"
DENSE = 600  # items up to which a dense eigenvalue decomposition is the faster one
Assignment = Literal["cluster_qr", "kmeans"]


class CIDConfig(BaseModel):
    """Settings of the codes: of the tokenizer, and of a method's section `index`."""

    branches: int = Field(default=20, ge=2, le=DENSE // 2, description="clusters that a cluster is split into")
    leaf: int = Field(default=200, ge=1, description="a cluster of at most so many items is not split")
    assignment: Assignment = Field(
        default="cluster_qr",
        description="eigenvectors to clusters: pivoted QR, as in the released code; or k-means on rows of unit length, "
        "whose clusters are more even",
    )
    leaf_tokens: Literal["own", "shared"] = Field(
        default="own", description="last token of a code: the item's own; shared: its number in the cluster"
    )


class CIDTokenizer(Tokenizer, CIDConfig):
    """Codes of training interactions alone. Items are numbered by their raw ids while codes are made, so that equal
    training sequences give equal codes in whatever order a source lists items and users."""

    kind: Literal["cid"] = "cid"

    def make_index(self, data: TrainingData, vectors: Vectors, context: RunContext) -> ItemIndex:
        """`details` counts the clusters that are not split, the items of the largest, and the items without
        neighbours."""
        order = CanonicalOrder.of((), data.items)
        graph = co_occurrence(order.item_ranks[data.sequences.values], data.sequences.rows(), data.n_items)
        clustering = Clustering(graph, self.branches, self.leaf, self.assignment, context.seed)
        paths = clustering.paths()[order.item_ranks]
        cluster = (
            np.unique(paths, axis=0, return_inverse=True)[1] if paths.shape[1] else np.zeros(data.n_items, np.int64)
        )
        numbers = places_in_group(cluster.reshape(-1, 1), data.items)
        codes = np.column_stack([paths, order.item_ranks if self.leaf_tokens == "own" else numbers])
        sizes = tuple(int(size) for size in codes.max(axis=0, initial=0) + 1)
        return ItemIndex(
            table=CodeTable(codes, sizes),
            blocks=(("collaborative", len(sizes)),),
            provenance=Provenance.of(data, VERSION),
            details={
                "kind": self.kind,
                "clusters": int(cluster.max()) + 1,
                "largest_cluster": int(numbers.max(initial=-1)) + 1,
                "without_neighbours": int((np.diff(graph.indptr) == 0).sum()),
                "cut_evenly": clustering.cut_evenly,
            },
        )


def co_occurrence(items: np.ndarray, owners: np.ndarray, n_items: int) -> sparse.csr_array:
    """How often two different items stand in one sequence, (n_items, n_items), symmetric, whole numbers; `items` and
    the `owners` of their places, both (interactions,).

    >>> co_occurrence(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), 3).toarray().astype(int).tolist()
    [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    """
    shape = (int(owners.max(initial=-1)) + 1, n_items)
    places = sparse.csr_array((np.ones(len(items)), (owners, items)), shape)
    together = sparse.coo_array(places.T @ places)
    i, j = together.coords
    edges = i != j
    return sparse.csr_array(sparse.coo_array((together.data[edges], (i[edges], j[edges])), (n_items, n_items)))


@dataclass
class Clustering:
    """Recursive spectral clustering of `graph`. `cut_evenly`: the clusters that the graph left in one piece, which
    were cut into equal parts in canonical order."""

    graph: sparse.csr_array
    branches: int
    leaf: int
    assignment: Assignment
    seed: int
    cut_evenly: int = field(default=0, init=False)

    def paths(self) -> np.ndarray:
        """The clusters of each item from the root down, int64 (n_items, splits of the deepest cluster). Behind a
        cluster that is not split stands the number `branches`."""
        joined = np.diff(self.graph.indptr) > 0
        alone = np.flatnonzero(~joined)
        rows: list[list[int]] = [[] for _ in joined]
        if joined.all() or len(joined) <= self.leaf:
            self._split(np.arange(len(rows)), rows)
        else:
            for item in alone:
                rows[item].append(self.branches)
            self._split(alone, rows)
            self._split(np.flatnonzero(joined), rows, force=True)
        depth = max(map(len, rows), default=0)
        return np.array([row + [self.branches] * (depth - len(row)) for row in rows], np.int64).reshape(
            len(rows), depth
        )

    def _split(self, items: np.ndarray, rows: list[list[int]], *, force: bool = False) -> None:
        """Appends the clusters of `items` to their rows. `force`: at least once, where a row has to have a first."""
        if len(items) <= self.leaf and not force:
            return
        labels = self._labels(items)
        for item, label in zip(items, labels, strict=True):
            rows[item].append(int(label))
        for label in np.unique(labels):
            self._split(items[labels == label], rows)

    def _labels(self, items: np.ndarray) -> np.ndarray:
        count = min(self.branches, len(items))
        if count > 1:
            vectors, scale = self._eigenvectors(sparse.csr_array(self.graph[items][:, items]), count)
            labels = self._assigned(vectors, scale, count)
            if len(np.unique(labels)) > 1:
                return labels
        self.cut_evenly += len(items) > self.leaf
        return np.arange(len(items)) * count // len(items)

    def _eigenvectors(self, graph: sparse.csr_array, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The `count` leading eigenvectors of D^-½ W D^-½, (n, count), and D^-½, (n,), zero for items without
        neighbours."""
        degrees = np.asarray(graph.sum(axis=1)).ravel()
        scale = np.where(degrees > 0, 1 / np.sqrt(degrees.clip(min=1)), 0.0)
        n = len(degrees)
        if n <= DENSE:
            return np.linalg.eigh(scale[:, None] * graph.toarray() * scale)[1][:, -count:], scale
        start = generator(self.seed, "cid", "start", n).normal(size=n)
        normalised = sparse.csr_array(sparse.diags_array(scale) @ graph @ sparse.diags_array(scale))
        tolerance = cast(Any, 1e-6)  # a number, which the stubs do not know
        return eigsh(normalised, count, which="LA", v0=start, tol=tolerance)[1], scale

    def _assigned(self, vectors: np.ndarray, scale: np.ndarray, count: int) -> np.ndarray:
        """The cluster of each row: by the columns that a pivoted QR decomposition picks (Damle, Minden and Ying,
        Information and Inference 2019), or by k-means (Ng, Jordan and Weiss, NeurIPS 2001)."""
        if self.assignment == "cluster_qr":
            vectors = vectors * scale[:, None]
            pivots = cast(Any, qr(vectors.T, mode="r", pivoting=True))[1][:count]
            return np.abs(vectors @ polar(vectors[pivots].T)[0]).argmax(axis=1)
        points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        seed = derive_seed(self.seed, "cid", "kmeans") % (1 << 32)
        return KMeans(count, n_init=cast(Any, 3), random_state=seed).fit_predict(points)

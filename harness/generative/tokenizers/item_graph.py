"""The co-occurrence graph of the items of training sequences, and item vectors from it.

The graph has an edge between two items of one user's sequence, weighted by two parts, each summed over all users:

    w(i, j) = n_ij / (√(n_i n_j) + shrinkage)  +  Σ_d t_d(i, j) / d  ·  transition / √(t_i t_j)

n_ij counts pairs at most `reach` places apart, n_i interactions; t_d(i, j) counts pairs exactly d places apart in
either direction, d = 1 … 3, and t_i is item i's sum of them. A diagonal is added, and the vectors are U √S of the
truncated singular value decomposition, rows scaled to unit length (as in Levy & Goldberg, NeurIPS 2014). Work grows
with interactions times `reach`, memory with the edges. Random walks on the graph serve as training sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from harness.core.artifact_cache import Key
from harness.core.seeding import derive_seed
from harness.data.dataset import CanonicalOrder
from harness.generative.config import Section, VectorsConfig
from harness.generative.tokenizers.embeddings import EmbeddingSource, ItemVectors, Source, vectors_key
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

DISTANCES = (1, 2, 3)  # of transitions
SIMILAR, NEAREST, BLOCK = 8, 0.4, 1024  # of `ItemWalks`
ITERATIONS = 7  # power iterations of the randomised decomposition (Halko et al., 2011)
VERSION = "collaborative/1"


class GraphConfig(Section):
    """Weights of the item graph."""

    reach: int = Field(default=50, ge=1, description="places between two items of a sequence that still make an edge")
    shrinkage: float = Field(default=10.0, ge=0, description="added to the cosine's denominator: damps rare pairs")
    transition: float = Field(default=1.0, ge=0, description="weight of transitions at distances 1 to 3")
    diagonal: float = Field(default=0.2, ge=0, description="added to the diagonal")


def graph_vectors(rows: Sequence[np.ndarray], n_items: int, dim: int, config: GraphConfig, seed: int) -> np.ndarray:
    """Vectors of all items, float32 (n_items, dim), from training sequences `rows` of item numbers. Items without a
    neighbour have a zero vector, and so has each dimension beyond the number of items."""
    graph = item_graph(rows, n_items, config)
    rank = min(dim, n_items)
    iterations = cast(Any, ITERATIONS)  # a number, which the stubs do not know
    u, values, _ = randomized_svd(graph, rank, n_iter=iterations, random_state=seed)
    vectors = np.zeros((n_items, dim))
    vectors[:, :rank] = u * np.sqrt(values)
    connected = np.diff(sparse.csr_array(graph).indptr) > 1  # besides the diagonal
    norms = np.linalg.norm(vectors, axis=1)
    usable = connected & (norms > 1e-12)
    vectors[usable] /= norms[usable, None]
    vectors[~usable] = 0
    return vectors.astype(np.float32)


def item_graph(rows: Sequence[np.ndarray], n_items: int, config: GraphConfig) -> sparse.csr_array:
    """The weighted graph with its diagonal, symmetric, (n_items, n_items) float64. Counts are integers until they are
    weighted, so that the order of users changes nothing."""
    values = np.concatenate(rows) if len(rows) else np.empty(0, np.int64)
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    combined = sparse.csr_array((n_items, n_items))
    transitions = sparse.csr_array((n_items, n_items))
    longest = max((len(row) for row in rows), default=0)
    for distance in range(1, min(config.reach, longest - 1) + 1):
        pairs = _pairs(values, owner, distance, n_items)
        combined = combined + pairs
        if distance in DISTANCES:
            transitions = transitions + pairs / distance
    counts = np.bincount(values, minlength=n_items).astype(np.float64)
    near = sparse.coo_array(combined)
    i, j = near.coords
    cosine = sparse.csr_array((near.data / (np.sqrt(counts[i] * counts[j]) + config.shrinkage), (i, j)), near.shape)
    strength = np.asarray(transitions.sum(axis=1)).ravel()
    scale = sparse.diags_array(np.where(strength > 0, 1 / np.sqrt(strength.clip(min=1e-300)), 0))
    followed = config.transition * (scale @ transitions @ scale)
    return sparse.csr_array(cosine + followed + config.diagonal * sparse.eye_array(n_items))


def _pairs(values: np.ndarray, owner: np.ndarray, distance: int, n_items: int) -> sparse.csr_array:
    """How often two different items stand `distance` places apart in a sequence, in either direction."""
    inside = owner[distance:] == owner[:-distance]
    first, second = values[:-distance][inside], values[distance:][inside]
    different = first != second
    first, second = first[different], second[different]
    ones = np.ones(len(first))
    counts = sparse.csr_array(sparse.coo_array((ones, (first, second)), (n_items, n_items)))
    return sparse.csr_array(counts + counts.T)


class ItemWalks:
    """Random walks over items as training sequences: a step goes along an edge of the item graph of `rows`, in
    proportion to its weight, or, with the probability `text` and from items without an edge, to an item of similar text
    (`vectors` (n_items, dim), by cosine): the nearest with the probability 0.4, else the next with 0.4, and so on. A
    window is replaced by a walk of its length from one of its items with the probability `share`.

    The nearest items take n_items² · dim operations, in blocks of `BLOCK` rows.
    """

    def __init__(
        self, rows: Sequence[np.ndarray], vectors: np.ndarray, config: GraphConfig, share: float, text: float
    ) -> None:
        self.share, self.text = share, text
        graph = item_graph(rows, len(vectors), config.model_copy(update={"diagonal": 0.0}))
        self._ends, self._items = graph.indptr, graph.indices
        self._weights = np.concatenate([[0.0], np.cumsum(graph.data)])
        self._similar = nearest(vectors, min(SIMILAR, len(vectors) - 1))

    def __call__(self, window: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The window or a walk in its place, item ids."""
        if rng.random() >= self.share:
            return window
        path = [int(rng.choice(window))]
        while len(path) < len(window):
            path.append(self._step(path[-1], rng))
        return np.array(path, dtype=window.dtype)

    def _step(self, item: int, rng: np.random.Generator) -> int:
        first, last = self._ends[item], self._ends[item + 1]
        if first == last or rng.random() < self.text:
            return int(self._similar[item, min(int(rng.geometric(NEAREST)), self._similar.shape[1]) - 1])
        aim = rng.uniform(self._weights[first], self._weights[last])
        return int(self._items[min(np.searchsorted(self._weights, aim, side="right") - 1, last - 1)])


def nearest(vectors: np.ndarray, count: int) -> np.ndarray:
    """The `count` items of largest cosine of each item, nearest first, int64 (n_items, count)."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    result = np.empty((len(unit), count), dtype=np.int64)
    for begin in range(0, len(unit), BLOCK):
        similarity = unit[begin : begin + BLOCK] @ unit.T
        rows = np.arange(len(similarity))
        similarity[rows, begin + rows] = -np.inf
        values, items = torch.topk(torch.from_numpy(similarity), count)
        order = np.lexsort((items.numpy(), -values.numpy()))  # equal ones by number
        result[begin : begin + BLOCK] = np.take_along_axis(items.numpy(), order, axis=1)
    return result


class CollaborativeConfig(VectorsConfig):
    """Training interactions to item vectors, by the spectrum of the item graph; or ready vectors, such as the item
    embeddings of a sequential recommender."""

    graph: GraphConfig = GraphConfig()


@dataclass(frozen=True)
class CollaborativeEmbeddings(EmbeddingSource[CollaborativeConfig]):
    """Vectors of `dim` dimensions. Wider ones from a file are projected to the `dim` directions that keep most of their
    inner products; narrower ones are filled up with zeros."""

    config: CollaborativeConfig
    dim: int

    name: ClassVar[Source] = "collaborative"
    setting: ClassVar[str] = "SECTION.index.collaborative"

    def fit(self, data: TrainingData, context: RunContext) -> ItemVectors:
        vectors = super().fit(data, context)
        if self.config.vectors is None:
            return vectors
        return replace(vectors, values=of_width(vectors.values, self.dim, data.items))

    def make(self, data: TrainingData, context: RunContext) -> tuple[np.ndarray, dict[str, Any], Provenance]:
        order = CanonicalOrder.of((), data.items)
        rows = [order.item_ranks[row] for row in data.sequences if len(row)]
        seed = derive_seed(context.seed, self.name) % (1 << 32)
        with context.stage("collaborative vectors"):
            values = graph_vectors(rows, data.n_items, self.dim, self.config.graph, seed)
        return values, {"encoder": "graph"}, Provenance.of(data, VERSION)

    def key(self, data: TrainingData, context: RunContext) -> Key:
        parts = {
            "method": VERSION,
            "graph": self.config.graph.model_dump(mode="json"),
            "dim": self.dim,
            "rows": data.rows_fingerprint,
            "seed": context.seed,
        }
        return vectors_key("collaborative vectors", parts, data.items)


def of_width(values: np.ndarray, dim: int, items: tuple[str, ...]) -> np.ndarray:
    """`values` (n_items, any) as float32 (n_items, dim): projected to their leading right singular vectors where they
    are wider, with zeros behind where they are narrower. Computed in canonical order, whatever that of `items`."""
    if values.shape[1] > dim:
        order = CanonicalOrder.of((), items)
        canonical = values[order.items].astype(np.float64)
        values = (canonical @ np.linalg.eigh(canonical.T @ canonical)[1][:, : -dim - 1 : -1])[order.item_ranks]
    return np.pad(values, ((0, 0), (0, dim - values.shape[1]))).astype(np.float32)

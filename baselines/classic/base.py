"""Training-free baselines: popularity, first-order Markov, item-kNN; and their base, a state of named arrays and
ranking in chunks of users, with top items from sparse or dense scores.

Memory grows with the interactions, not with users times items. Each class defines the order of ties, so that results
are reproducible exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from pydantic import Field
from safetensors.numpy import load_file, save_file
from scipy import sparse

from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.protocol.context import RunContext
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.recommender import ModelConfig, ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

CHUNK = 1024  # users handled at once: bounds memory, does not change results
PARTS = 4  # of a wide row, for each listed item
BLOCK = 256  # rows of similar length that are partitioned as one table
FILE = "model.safetensors"
ITEMS = 512  # items whose neighbours are computed at once: bounds memory, does not change results


def by_popularity(counts: np.ndarray) -> np.ndarray:
    """All items by descending count, ties in item order: int64, shape (n_items,)."""
    return np.argsort(-counts, kind="stable")


def places(ranking: np.ndarray) -> np.ndarray:
    """The place of each item in a ranking of all items."""
    positions = np.empty_like(ranking)
    positions[ranking] = np.arange(len(ranking))
    return positions


def incidence(data: TrainingData) -> sparse.csr_array:
    """Sparse matrix of the items of each user in training: ones, float64, shape (n_users, n_items)."""
    pairs = np.unique(data.sequences.rows() * data.n_items + data.sequences.values)
    return sparse.csr_array((np.ones(len(pairs)), np.divmod(pairs, data.n_items)), shape=(data.n_users, data.n_items))


def first_of_each(rows: np.ndarray, n_rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the first `k` entries of each row, for entries grouped by ascending `rows`.

    Returns the indices of these entries and the column of each.
    """
    starts = np.searchsorted(rows, np.arange(n_rows))
    columns = np.arange(len(rows)) - starts[rows]
    saved = np.flatnonzero(columns < k)
    return saved, columns[saved]


def best_of_rows(table: sparse.csr_array, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` greatest entries of each row, ties by column: columns and values, both of shape (rows, k).

    Shorter rows are padded with `NO_ITEM` and 0. Of a long row only entries that reach its `threshold` are sorted, so
    that a tie at the k-th place is resolved by column.
    """
    values, lengths = np.asarray(table.data, dtype=np.float64), np.diff(table.indptr).astype(np.int64)
    minimum = np.full(len(lengths), -np.inf)
    order = np.argsort(lengths, kind="stable")
    order = order[np.searchsorted(lengths[order], k, side="right") :]
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        width = int(lengths[rows[-1]])
        block = np.full((len(rows), width), -np.inf)
        block[np.arange(width) < lengths[rows, None]] = table[rows].data
        minimum[rows] = threshold(block, k)
    progress = np.flatnonzero(values >= np.repeat(minimum, lengths))
    rows = np.repeat(np.arange(len(lengths)), lengths)[progress]
    return _sorted_lists(rows, np.asarray(table.indices, dtype=np.int64)[progress], values[progress], (len(lengths), k))


def best_of_table(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The same for dense scores, shape (rows, columns); -inf is never listed."""
    listed = scores > -np.inf
    if k < scores.shape[1]:
        listed &= scores >= threshold(scores, k)[:, None]
    rows, columns = np.nonzero(listed)
    return _sorted_lists(rows, columns, scores[rows, columns].astype(np.float64), (len(scores), k))


def threshold(table: np.ndarray, k: int) -> np.ndarray:
    """Values, shape (rows,), that at least `k` entries of each row reach, and little more; `k` is at most the number of
    columns. Of a wide row it is the k-th greatest of the maxima of parts, which are `k` different entries."""
    size = table.shape[1] // (PARTS * k)
    if size > 1:
        width = table.shape[1] // size * size
        table = table[:, :width].reshape(len(table), size, -1).max(axis=1)
    return np.partition(table, table.shape[1] - k, axis=1)[:, -k]


def _sorted_lists(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Entries as lists of the given shape: greatest first, ties by column, cut to the shape."""
    order = np.lexsort((columns, -values, rows))
    mask, places = first_of_each(rows[order], shape[0], shape[1])
    selected = order[mask]
    items, scores = np.full(shape, NO_ITEM), np.zeros(shape)
    items[rows[selected], places], scores[rows[selected], places] = columns[selected], values[selected]
    return items, scores


def weighed(histories: RaggedArray, n_items: int, recency: float) -> sparse.csr_array:
    """Histories as rows of weights, shape (users, n_items): an item `a` places before the last has weight `recency **
    a`, summed over its occurrences."""
    ages = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(histories.values))
    return sparse.csr_array((recency**ages, (histories.rows(), histories.values)), shape=(len(histories), n_items))


def fill_up(
    items: np.ndarray, scores: np.ndarray, ranking: np.ndarray, k: int, barred: RaggedArray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Lists of positive scores, shape (n, m), filled up to `k` from one `ranking`, without repeats and without the
    items of row `i` of `barred`.

    Filled-in items have scores below all others: 0, -1, -2, … by place in the ranking. `NO_ITEM` remains only if the
    ranking is too short.
    """
    short = np.flatnonzero((items[:, :k] == NO_ITEM).any(axis=1)) if items.shape[1] >= k else np.arange(len(items))
    full_items, full_scores = np.full((len(items), k), NO_ITEM), np.zeros((len(items), k))
    full_items[:, : items.shape[1]], full_scores[:, : items.shape[1]] = items[:, :k], scores[:, :k]
    if not len(short):
        return full_items, full_scores
    items, scores = items[short], scores[short]
    kept_out = RaggedArray.of([]) if barred is None else barred.take(short)
    value = int(kept_out.lengths.max(initial=0))
    width = min(k + items.shape[1] + value, len(ranking))  # enough: at most so many can repeat or be barred
    spare = np.broadcast_to(ranking[:width], (len(items), width))
    repeats = (spare[:, :, None] == items[:, None, :]).any(axis=2)
    if value:
        repeats |= among(spare, kept_out)
    joined = np.concatenate([items, np.where(repeats, NO_ITEM, spare)], axis=1)
    scored = np.concatenate([scores, np.broadcast_to(-np.arange(width, dtype=np.float64), spare.shape)], axis=1)
    packed = _packed(joined, scored, k)
    full_items[short, : packed[0].shape[1]], full_scores[short, : packed[0].shape[1]] = packed
    return full_items, full_scores


def without(items: np.ndarray, scores: np.ndarray, barred: RaggedArray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists, shape (n, m), without the items of row `i` of `barred`, cut to `k` (at most m) columns."""
    return _packed(np.where(among(items, barred), NO_ITEM, items), scores, k)


def among(items: np.ndarray, rows: RaggedArray) -> np.ndarray:
    """Whether row `i` of `rows` contains each of `items`, shape (n, m)."""
    size = 2 + max(items.max(initial=0), rows.values.max(initial=0))  # room for `NO_ITEM` below item 0
    return np.isin(np.arange(len(items))[:, None] * size + items + 1, rows.rows() * size + rows.values + 1)


def _packed(items: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `k` items of each row, in order, padded with `NO_ITEM` and 0."""
    order = np.argsort(items == NO_ITEM, axis=1, kind="stable")[:, :k]
    listed = np.take_along_axis(items, order, axis=1)
    return listed, np.where(listed == NO_ITEM, 0.0, np.take_along_axis(scores, order, axis=1))


def nearest_items(
    similarity: Callable[[np.ndarray], sparse.csr_array], n_items: int, neighbours: int, context: RunContext
) -> dict[str, np.ndarray]:
    """The most similar others of each item, as the arrays `item`, `near` and `similarity`, all of shape (pairs,).
    `similarity(block)` has the rows of the items `block`, (len(block), n_items)."""
    parts = []
    with context.stage("similarities", total=n_items) as stage:
        for start in range(0, n_items, ITEMS):
            block = np.arange(start, min(start + ITEMS, n_items))
            rows = similarity(block)
            rows.data[np.repeat(block, np.diff(rows.indptr)) == rows.indices] = -np.inf  # no item is its own neighbour
            near, values = best_of_rows(rows, neighbours)
            saved = (near != NO_ITEM) & (values > -np.inf)
            parts.append((np.repeat(block, saved.sum(axis=1)), near[saved], values[saved]))
            stage.advance(len(block))
    return dict(zip(("item", "near", "similarity"), map(np.concatenate, zip(*parts, strict=True)), strict=True))


ConfigT = TypeVar("ConfigT", bound=ModelConfig)


class ArrayRecommender(Recommender[ConfigT], Generic[ConfigT]):
    """A training-free model: its state is a few named arrays, and users are ranked chunk by chunk."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.arrays: dict[str, np.ndarray] = {}

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        self.arrays = {"counts": data.counts(), **self._learn(data, context)}
        self._prepare(data, context)

    def _learn(self, data: TrainingData, context: RunContext) -> dict[str, np.ndarray]:
        """Computes the arrays of the model from the training data, besides the training count of each item."""
        return {}

    def _prepare(self, data: TrainingData, context: RunContext) -> None:
        """Derives what ranking needs from the arrays, after fitting and after loading."""
        self.ranking = by_popularity(self.arrays["counts"])

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        return self._in_chunks(lambda chunk: self._lists(chunk, k), requests, k, context)

    def _in_chunks(
        self,
        lists: Callable[[Requests], tuple[np.ndarray, np.ndarray]],
        requests: Requests,
        k: int,
        context: RunContext,
    ) -> Predictions:
        parts = []
        with context.stage("recommend", total=len(requests)) as stage:
            for start in range(0, len(requests), CHUNK):
                rows = np.arange(start, min(start + CHUNK, len(requests)))
                parts.append(lists(requests.take(rows)))
                stage.advance(len(rows))
        empty = (np.empty((0, k)), np.empty((0, k)))
        items, scores = (np.concatenate(part) for part in zip(empty, *parts, strict=True))
        return Predictions(requests.cases, items, scores)

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Items and scores of one chunk, shape (n, k)."""
        raise NotImplementedError

    def _save(self, folder: Path) -> None:
        save_file(self.arrays, folder / FILE)

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        self.arrays = load_file(folder / FILE)
        if len(self.arrays["counts"]) != data.n_items:
            raise InputError(
                f"a model of {len(self.arrays['counts'])} items, where the data set has {data.n_items}",
                where=str(folder),
                hint="load it with the data set that it was fitted on",
                code="incompatible",
            )
        self._prepare(data, context)

    def size(self) -> ModelSize:
        """Number of stored values; none is trained by gradient."""
        return ModelSize(parameters=sum(array.size for array in self.arrays.values()))


class MostPopularConfig(ModelConfig):
    """Nothing to set."""


class MarkovConfig(ModelConfig):
    """Nothing to set."""


class ItemKNNConfig(ModelConfig):
    """Settings chosen on the validation items of ml-100k and office (`results/measurements/log-archive.md`)."""

    neighbours: int = Field(default=100, ge=1, description="similar items kept an item")
    shrinkage: float = Field(default=10.0, ge=0, description="added to the cosine's denominator: damps rare pairs")
    recency: float = Field(
        default=0.5, gt=0, le=1, description="weight of an item relative to the one after it in the history"
    )


class MostPopular(ArrayRecommender[MostPopularConfig]):
    """By descending training count, then item order; the score is the count."""

    config_class = MostPopularConfig

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        listed = np.full(k, NO_ITEM)
        listed[: len(self.ranking)] = self.ranking[:k]
        scores = np.where(listed == NO_ITEM, 0, self.arrays["counts"][listed])
        shape = (len(requests), k)
        return np.broadcast_to(listed, shape), np.broadcast_to(scores, shape).astype(np.float64)


class Markov(ArrayRecommender[MarkovConfig]):
    """By descending count of transitions from the last item of the history, then descending training count, then item
    order.

    Filled up by popularity without repeats. The score is the transition count.
    """

    config_class = MarkovConfig

    def _learn(self, data: TrainingData, context: RunContext) -> dict[str, np.ndarray]:
        values, rows = data.sequences.values, data.sequences.rows()
        inside = np.flatnonzero(rows[1:] == rows[:-1])
        pairs, times = np.unique(values[inside] * data.n_items + values[inside + 1], return_counts=True)
        last, following = np.divmod(pairs, data.n_items)
        order = np.lexsort((following, -data.counts()[following], -times, last))
        return {"last": last[order], "after": following[order], "times": times[order]}

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        lengths, ends = requests.histories.lengths, requests.histories.offsets[1:]
        requested = np.full(len(requests), NO_ITEM)
        requested[lengths > 0] = requests.histories.values[ends[lengths > 0] - 1]
        starts, stops = (np.searchsorted(self.arrays["last"], requested, side) for side in ("left", "right"))
        places = starts[:, None] + np.arange(k)
        known_mask = places < stops[:, None]
        places = np.where(known_mask, places, 0)
        if not len(self.arrays["after"]):
            items, scores = np.full(known_mask.shape, NO_ITEM), np.zeros(known_mask.shape)
        else:
            items = np.where(known_mask, self.arrays["after"][places], NO_ITEM)
            scores = np.where(known_mask, self.arrays["times"][places], 0).astype(np.float64)
        return fill_up(items, scores, self.ranking, k)


class ItemKNN(ArrayRecommender[ItemKNNConfig]):
    """Items bought by the same users: cosine of the training incidence vectors, `n_ij / (sqrt(n_i n_j) + shrinkage)`.

    Each item keeps its `neighbours` most similar others. A candidate's score is the weighted sum of its similarities to
    the items of the history; an item `a` places before the last has weight `recency ** a`. Ties are broken by item
    order; lists are filled up by popularity. After Sarwar et al., WWW 2001.
    """

    config_class = ItemKNNConfig

    def _learn(self, data: TrainingData, context: RunContext) -> dict[str, np.ndarray]:
        purchases = incidence(data)
        by_item = sparse.csr_array(purchases.T)
        norms = np.sqrt(np.diff(by_item.indptr).astype(np.float64))

        def similarity(block: np.ndarray) -> sparse.csr_array:
            combined = sparse.csr_array(by_item[block] @ purchases)
            row = np.repeat(block, np.diff(combined.indptr))
            combined.data = combined.data / (norms[row] * norms[combined.indices] + self.config.shrinkage)
            return combined

        return nearest_items(similarity, data.n_items, self.config.neighbours, context)

    def _prepare(self, data: TrainingData, context: RunContext) -> None:
        super()._prepare(data, context)
        n_items = len(self.arrays["counts"])
        place = (self.arrays["item"], self.arrays["near"])
        self.similar = sparse.csr_array((self.arrays["similarity"], place), shape=(n_items, n_items))

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        weights = weighed(requests.histories, len(self.ranking), self.config.recency)
        return fill_up(*best_of_rows(weights @ self.similar, k), self.ranking, k)

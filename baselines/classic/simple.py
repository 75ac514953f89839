"""Training-free baselines: popularity, first-order Markov, item-kNN.

Memory grows with the interactions, not with users times items. Each class defines the order of ties, so that results
are reproducible exactly.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import sparse

from baselines.classic.base import ArrayRecommender, best_of_rows, fill_up, incidence, weighed
from harness.protocol.context import RunContext
from harness.protocol.predictions import NO_ITEM
from harness.protocol.recommender import ModelConfig
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

ITEMS = 512  # items whose neighbours are computed at once: bounds memory, does not change results


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
        parts = []
        with context.stage("similarities", total=data.n_items) as stage:
            for start in range(0, data.n_items, ITEMS):
                block = np.arange(start, min(start + ITEMS, data.n_items))
                combined = sparse.csr_array(by_item[block] @ purchases)
                row = np.repeat(np.arange(len(block)), np.diff(combined.indptr))
                combined.data = combined.data / (norms[block[row]] * norms[combined.indices] + self.config.shrinkage)
                combined.data[block[row] == combined.indices] = -np.inf  # no item is its own neighbour
                near, cosine = best_of_rows(combined, self.config.neighbours)
                saved = (near != NO_ITEM) & (cosine > -np.inf)
                parts.append((np.repeat(block, saved.sum(axis=1)), near[saved], cosine[saved]))
                stage.advance(len(block))
        item, near, similarity = (np.concatenate(part) for part in zip(*parts, strict=True))
        return {"item": item, "near": near, "similarity": similarity}

    def _prepare(self, data: TrainingData, context: RunContext) -> None:
        super()._prepare(data, context)
        n_items = len(self.arrays["counts"])
        place = (self.arrays["item"], self.arrays["near"])
        self.similar = sparse.csr_array((self.arrays["similarity"], place), shape=(n_items, n_items))

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        weights = weighed(requests.histories, len(self.ranking), self.config.recency)
        return fill_up(*best_of_rows(weights @ self.similar, k), self.ranking, k)

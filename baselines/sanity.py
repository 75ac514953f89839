"""Baselines that need no training: popularity, first-order Markov, item-kNN. A model that does not beat them is broken.

Memory grows with the interactions, never with users times items. Equal scores are ordered by the rule of each class,
so that any two implementations can agree to the last digit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from pydantic import Field
from safetensors.numpy import load_file, save_file
from scipy import sparse

from baselines.ranking import CHUNK, by_popularity, fill_up, first_of_each
from harness.errors import InputError
from harness.protocol.context import RunContext
from harness.protocol.predictions import NOBODY, Predictions
from harness.protocol.recommender import ModelConfig, ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

FILE = "model.safetensors"


class MostPopularConfig(ModelConfig):
    """Nothing to set."""


class MarkovConfig(ModelConfig):
    """Nothing to set."""


class ItemKNNConfig(ModelConfig):
    """Settings chosen on the validation items of ml-100k and office (`docs/log.md`)."""

    neighbours: int = Field(default=100, ge=1, description="similar items kept an item")
    shrinkage: float = Field(default=10.0, ge=0, description="added to the cosine's denominator: damps rare pairs")
    recency: float = Field(
        default=0.5, gt=0, le=1, description="weight of an item relative to the one after it in the history"
    )


ConfigT = TypeVar("ConfigT", bound=ModelConfig)


class _Counting(Recommender[ConfigT], Generic[ConfigT]):
    """What the three share: their state is a few named arrays, and the request is answered chunk by chunk."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.arrays: dict[str, np.ndarray] = {}

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        self.arrays = {"counts": data.counts(), **self._learn(data, context)}
        self._prepare()

    def _learn(self, data: TrainingData, context: RunContext) -> dict[str, np.ndarray]:
        """Further arrays besides the training count of each item."""
        return {}

    def _prepare(self) -> None:
        self.ranking = by_popularity(self.arrays["counts"])

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        parts = []
        with context.stage("recommend", total=len(requests)) as stage:
            for start in range(0, len(requests), CHUNK):
                rows = np.arange(start, min(start + CHUNK, len(requests)))
                parts.append(self._lists(requests.take(rows), k))
                stage.advance(len(rows))
        empty = (np.empty((0, k)), np.empty((0, k)))
        items, scores = (np.concatenate(part) for part in zip(empty, *parts, strict=True))
        return Predictions(requests.users, items, scores)

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
                mend="load it with the data set that it was fitted on",
            )
        self._prepare()

    def size(self) -> ModelSize:
        """The numbers that it keeps; none is trained by gradient."""
        return ModelSize(parameters=sum(array.size for array in self.arrays.values()))


class MostPopular(_Counting[MostPopularConfig]):
    """Training count down, then item order; the score is the count."""

    config_class = MostPopularConfig

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        listed = np.full(k, NOBODY)
        listed[: len(self.ranking)] = self.ranking[:k]
        scores = np.where(listed == NOBODY, 0, self.arrays["counts"][listed])
        shape = (len(requests), k)
        return np.broadcast_to(listed, shape), np.broadcast_to(scores, shape).astype(np.float64)


class Markov(_Counting[MarkovConfig]):
    """From the last item of the history: training transition count down, then training count down, then item order.

    Filled up by popularity without repeats. The score is the transition count.
    """

    config_class = MarkovConfig

    def _learn(self, data: TrainingData, context: RunContext) -> dict[str, np.ndarray]:
        values, rows = data.sequences.values, data.sequences.rows()
        within = np.flatnonzero(rows[1:] == rows[:-1])
        pairs, times = np.unique(values[within] * data.n_items + values[within + 1], return_counts=True)
        last, after = np.divmod(pairs, data.n_items)
        order = np.lexsort((after, -data.counts()[after], -times, last))
        return {"last": last[order], "after": after[order], "times": times[order]}

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        lengths, ends = requests.histories.lengths, requests.histories.offsets[1:]
        asked = np.full(len(requests), NOBODY)
        asked[lengths > 0] = requests.histories.values[ends[lengths > 0] - 1]
        starts, stops = (np.searchsorted(self.arrays["last"], asked, side) for side in ("left", "right"))
        places = starts[:, None] + np.arange(k)
        known = places < stops[:, None]
        places = np.where(known, places, 0)
        if not len(self.arrays["after"]):
            items, scores = np.full(known.shape, NOBODY), np.zeros(known.shape)
        else:
            items = np.where(known, self.arrays["after"][places], NOBODY)
            scores = np.where(known, self.arrays["times"][places], 0).astype(np.float64)
        return fill_up(items, scores, self.ranking, k)


class ItemKNN(_Counting[ItemKNNConfig]):
    """Items bought by the same users: cosine of the training incidence vectors, `n_ij / (sqrt(n_i n_j) + shrinkage)`.

    Each item keeps its `neighbours` most similar others. A candidate's score is the sum of its similarities to the
    items of the history, an item `a` places before the last one weighing `recency ** a`. Equal scores by item order;
    filled up by popularity without repeats. After Sarwar et al., WWW 2001.
    """

    config_class = ItemKNNConfig

    def _learn(self, data: TrainingData, context: RunContext) -> dict[str, np.ndarray]:
        pairs = np.unique(data.sequences.rows() * data.n_items + data.sequences.values)
        rows, items = np.divmod(pairs, data.n_items)
        shape = (data.n_users, data.n_items)
        bought = sparse.csr_array((np.ones(len(pairs), np.float64), (rows, items)), shape=shape)
        by_item = sparse.csr_array(bought.T)
        norms = np.sqrt(np.diff(by_item.indptr).astype(np.float64))
        parts = []
        with context.stage("similarities", total=data.n_items) as stage:
            for start in range(0, data.n_items, CHUNK):
                stop = min(start + CHUNK, data.n_items)
                block = sparse.coo_array(by_item[start:stop] @ bought)
                parts.append(self._nearest(block, np.arange(start, stop), norms))
                stage.advance(stop - start)
        item, near, similarity = (np.concatenate(part) for part in zip(*parts, strict=True))
        return {"item": item, "near": near, "similarity": similarity}

    def _nearest(
        self, together: sparse.coo_array, block: np.ndarray, norms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The nearest others of a block of items, grouped by item, from the users they have together."""
        row, near = (np.asarray(part, dtype=np.int64) for part in together.coords)
        item = block[row]
        times = np.asarray(together.data, dtype=np.float64)
        cosine = times / (norms[item] * norms[near] + self.config.shrinkage)
        others = np.flatnonzero(item != near)
        order = others[np.lexsort((near[others], -cosine[others], row[others]))]
        kept, _ = first_of_each(row[order], len(block), self.config.neighbours)
        chosen = order[kept]
        return item[chosen], near[chosen], cosine[chosen]

    def _prepare(self) -> None:
        super()._prepare()
        n_items = len(self.arrays["counts"])
        place = (self.arrays["item"], self.arrays["near"])
        self.similar = sparse.csr_array((self.arrays["similarity"], place), shape=(n_items, n_items))

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        histories = requests.histories
        ages = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(histories.values))
        weights = sparse.csr_array(
            (self.config.recency**ages, (histories.rows(), histories.values)),
            shape=(len(requests), len(self.ranking)),
        )
        found = sparse.coo_array(weights @ self.similar)
        rows, near = (np.asarray(part, dtype=np.int64) for part in found.coords)
        summed = np.asarray(found.data, dtype=np.float64)
        order = np.lexsort((near, -summed, rows))
        kept, columns = first_of_each(rows[order], len(requests), k)
        chosen = order[kept]
        items, scores = np.full((len(requests), k), NOBODY), np.zeros((len(requests), k))
        items[rows[chosen], columns], scores[rows[chosen], columns] = near[chosen], summed[chosen]
        return fill_up(items, scores, self.ranking, k)

"""Graph: neighbourhoods of the last item in the item transition graph, each ranked by text. Training-free.

After "An Embarrassingly Simple Graph Heuristic Reveals Shortcut-Solvable Benchmarks for Sequential Recommendation",
arXiv 2605.07125 (TGH-1 there, with flan-t5-xl vectors).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, NonNegativeInt
from scipy import sparse

from baselines.classic.base import (
    ArrayRecommender,
    best_of_rows,
    best_of_table,
    by_popularity,
    fill_up,
    places,
    without,
)
from baselines.classic.text import TextRankingConfig, tfidf
from harness.protocol.context import RunContext
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

CELLS = 2**23  # entries of a dense block of items times items: bounds memory, does not change results
LAST = 2**40  # the place of items that a list takes only if nothing else is left


class GraphConfig(TextRankingConfig):
    """Settings chosen on validation of office14, office and beauty (`results/measurements/log-archive.md`)."""

    rings: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = Field(
        default=(7, 2, 1), description="places of a list, in turn, for items one, two and more steps from the last"
    )
    edge_weight: float = Field(
        default=2.0, ge=0, description="what the log of a transition's count adds to the cosine of the texts, at most"
    )
    neighbours: int = Field(default=30, ge=1, description="transitions kept an item, the most frequent first")
    use_text: bool = Field(default=True, description="rank by text where the data set has it")


class Graph(ArrayRecommender[GraphConfig]):
    """Candidates form three rings around the last item of the history, by their distance in the directed graph of
    training transitions: one step, two steps, more (or unreachable).

    Inside a ring they are ranked by the cosine of their TF-IDF text with the last item's; the first ring adds
    `edge_weight * log(1 + n) / log(1 + greatest n from that item)` for `n` transitions. Ties are broken by training
    count, then by item order. `rings` are quotas: with 7, 2, 1 each ten places of a list hold seven of the first ring,
    then two of the second and one of the third, so that the first ten do not depend on the length of the list. If a
    ring is exhausted, later items move up. A score is one divided by the place.

    Without text the first ring is ranked by its transitions, the second by the summed products of both steps' weights,
    and the third is empty. Lists are filled up by popularity. The record says which ranking was used.

    Differs from the paper's code: TF-IDF in place of a language model's vectors; only the `neighbours` most frequent
    transitions of an item; a short ring is filled up from all rings in turn; popularity in place of random items.
    """

    config_class = GraphConfig

    def _learn(self, data: TrainingData, context: RunContext) -> dict[str, np.ndarray]:
        ranking = by_popularity(data.counts())
        values, rows = places(ranking)[data.sequences.values], data.sequences.rows()
        inside = np.flatnonzero((rows[1:] == rows[:-1]) & (values[1:] != values[:-1]))
        shape = (data.n_items, data.n_items)
        pairs = (values[inside], values[inside + 1])
        counts = sparse.csr_array((np.ones(len(inside)), pairs), shape=shape)
        after, times = best_of_rows(counts, min(self.config.neighbours, int(np.diff(counts.indptr).max(initial=0))))
        saved = after != NO_ITEM
        sources = np.repeat(np.arange(data.n_items), saved.sum(axis=1))
        learnt = {"before": sources, "after": after[saved], "times": times[saved].astype(np.int64)}
        fields = ()
        if self.config.use_text and data.text is not None:
            vectors, fields = tfidf(data.text, self.config.fields, location=data.dataset)
            text = vectors[ranking]
            learnt |= {"text": text.data, "words": text.indices, "starts": text.indptr}
        context.event(event="graph", edges=len(sources), text=list(fields))
        return learnt

    def _prepare(self, data: TrainingData, context: RunContext) -> None:
        super()._prepare(data, context)
        self.places = places(self.ranking)
        n_items = len(self.ranking)
        weights = np.log1p(self.arrays["times"].astype(np.float64))
        greatest = np.zeros(n_items)
        np.maximum.at(greatest, self.arrays["before"], weights)
        pairs = (self.arrays["before"], self.arrays["after"])
        self.steps = sparse.csr_array((weights / greatest[pairs[0]], pairs), shape=(n_items, n_items))
        self.text = None
        if "text" in self.arrays:
            parts = (self.arrays["text"], self.arrays["words"], self.arrays["starts"])
            self.text = sparse.csr_array(parts, shape=(n_items, 1 + int(parts[1].max(initial=0))))
            self.words = sparse.csr_array(self.text.T)

    def record(self) -> dict[str, Any]:
        return {"edges": len(self.arrays["before"]), "text": self.text is not None}

    def _recommend(self, requests: Requests, k: int, context: RunContext) -> Predictions:
        """Computes the rings of each distinct last item once, then the lists chunk by chunk."""
        histories = requests.histories
        ends = histories.offsets[1:][histories.lengths > 0] - 1
        last = np.unique(self.places[histories.values[ends]])
        depth = k + (int(histories.lengths.max(initial=0)) if self.config.exclude_seen else 0)
        rings = self._rings(last, depth, context)
        return self._in_chunks(lambda chunk: self._chunk(chunk, k, last, rings), requests, k, context)

    def _chunk(self, requests: Requests, k: int, last: np.ndarray, rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lists from the rings around each of `last` (ascending)."""
        histories = requests.histories
        barred = histories if self.config.exclude_seen else None
        requested = np.flatnonzero(histories.lengths > 0)
        own_rows = self.places[histories.values[histories.offsets[requested + 1] - 1]]
        around = np.full((len(requests), *rings.shape[1:]), NO_ITEM)
        around[requested] = rings[np.searchsorted(last, own_rows)]
        listed = []
        for ring in range(3):
            near = np.where(around[:, ring] == NO_ITEM, NO_ITEM, self.ranking[around[:, ring]])
            listed.append(near[:, :k] if barred is None else without(near, np.zeros(near.shape), barred, k)[0])
        return fill_up(*self._shared(listed, k), self.ranking, k, barred)

    def _shared(self, rings: list[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
        """The lists of the three rings, each of shape (n, k), as one, by the quotas."""
        selected, round_size, at = np.arange(k), sum(self.config.rings), 0
        turns = []
        for quota in self.config.rings:
            turns.append(selected // quota * round_size + at + selected % quota if quota else np.full(k, LAST))
            at += quota
        joined = np.concatenate(rings, axis=1)
        turn = np.where(joined == NO_ITEM, 2 * LAST, np.concatenate(turns))
        order = np.argsort(turn, axis=1, kind="stable")[:, :k]
        items = np.take_along_axis(joined, order, axis=1)
        return items, np.where(items == NO_ITEM, 0.0, 1 / (1.0 + selected))

    def _rings(self, last: np.ndarray, depth: int, context: RunContext) -> np.ndarray:
        """The best `depth` items of each ring around each of `last`, int32 (n, 3, depth), as places in the ranking."""
        result = np.empty((len(last), 3, depth), np.int32)
        size = max(1, CELLS // len(self.ranking))
        with context.stage("rings", total=len(last)) as stage:
            for start in range(0, len(last), size):
                block = last[start : start + size]
                for ring, items in enumerate(self._block(block, depth)):
                    result[start : start + size, ring] = items
                stage.advance(len(block))
        return result

    def _block(self, last: np.ndarray, depth: int) -> list[np.ndarray]:
        near = None if self.text is None else (self.text[last] @ self.words).toarray()
        first = self.steps[last]
        second = sparse.csr_array(first @ self.steps)
        visited = np.zeros((len(last), len(self.ranking)), bool)
        visited[np.arange(len(last)), last] = True
        rows = np.repeat(np.arange(len(last)), np.diff(first.indptr))
        visited[rows, first.indices] = True
        if near is not None:
            first.data = self.config.edge_weight * first.data + near[rows, first.indices]
        rows = np.repeat(np.arange(len(last)), np.diff(second.indptr))
        repeated = visited[rows, second.indices]
        visited[rows, second.indices] = True
        second.data = np.where(repeated, -np.inf, second.data if near is None else near[rows, second.indices])
        one, two = best_of_rows(first, depth), best_of_rows(second, depth)
        lists = [one[0], np.where(two[1] > -np.inf, two[0], NO_ITEM)]
        if near is None:
            return [*lists, np.full((len(last), depth), NO_ITEM)]
        near[visited | (near <= 0)] = -np.inf
        return [*lists, best_of_table(near, depth)[0]]

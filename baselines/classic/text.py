"""Item text as TF-IDF vectors, for the training-free models; text kNN: items whose text is closest to that of the
recent history, by TF-IDF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import sparse

from baselines.classic.base import (
    ArrayRecommender,
    best_of_rows,
    by_popularity,
    fill_up,
    nearest_items,
    places,
    weighed,
    without,
)
from harness.data.dataset import ItemText, require_text
from harness.errors import InputError
from harness.protocol.context import RunContext
from harness.protocol.predictions import NO_ITEM
from harness.protocol.recommender import ModelConfig, TextModelConfig
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

TextField = Literal["title", "description", "brand", "categories"]
TITLED: tuple[TextField, ...] = ("title", "brand", "description")
UNTITLED: tuple[TextField, ...] = ("brand", "categories", "description")
# Words of more items than this are left out: they carry little information and cost most in a product of vectors. A
# share of the items, and at least the second number.
COMMON, FEWEST = 0.5, 20


def tfidf(
    text: Sequence[ItemText], fields: Sequence[TextField] | None, *, location: str
) -> tuple[sparse.csr_array, tuple[TextField, ...]]:
    """One row an item, float64, of length 1 (zeros for an item without words), so that the product of two rows is their
    cosine: `(1 + log count) * (1 + log((1 + items) / (1 + items with the word)))`, words in lower case. Also returns
    the fields that were read.

    Without `fields`: title, brand and description; where no item has a title, categories in its place. Raises
    `InputError`, which names the data set `location`, if no word is left.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    selected = tuple(fields or (TITLED if any(entry.title for entry in text) else UNTITLED))
    documents = [_document(entry, selected) for entry in text]
    try:
        result = TfidfVectorizer(sublinear_tf=True, max_df=max(int(COMMON * len(text)), FEWEST)).fit_transform(
            documents
        )
    except ValueError as error:  # the vocabulary is empty
        message = f"no item has a word of its own in {', '.join(selected)}"
        raise InputError(
            message, where=location, hint="choose others: --set textknn.fields=… (graph.fields=…)", code="empty-data"
        ) from error
    vectors = sparse.csr_array(result, dtype=np.float64)
    vectors.sort_indices()  # fixes the order of summation in products
    return vectors, selected


def _document(entry: ItemText, fields: Sequence[TextField]) -> str:
    values = (getattr(entry, field) for field in fields)
    return " ".join(" ".join(value) if isinstance(value, tuple) else value for value in values)


class TextRankingConfig(ModelConfig):
    """Base of the settings of models that rank by item text."""

    fields: tuple[TextField, ...] | None = Field(
        default=None,
        min_length=1,
        description="text fields; null: title, brand, description (categories for titles where there are none)",
    )
    exclude_seen: bool = Field(default=True, description="never list an item of the history")


class TextKNNConfig(TextRankingConfig, TextModelConfig):
    """Settings chosen on validation of office14, office and beauty (`results/measurements/log-archive.md`)."""

    neighbours: int = Field(default=100, ge=1, description="nearest items kept an item")
    recency: float = Field(
        default=0.5, gt=0, le=1, description="weight of an item relative to the one after it in the history"
    )


class TextKNN(ArrayRecommender[TextKNNConfig]):
    """Cosine of TF-IDF vectors (`baselines.classic.text`); each item keeps its `neighbours` nearest others.

    A candidate's score is the weighted sum of its similarities to the items of the history; an item `a` places before
    the last has weight `recency ** a`. Ties are broken by training count, then by item order; lists are filled up by
    popularity.
    """

    config_class = TextKNNConfig

    def _learn(self, data: TrainingData, context: RunContext) -> dict[str, np.ndarray]:
        text = require_text(data.text, data.items, location=data.dataset)
        ranking = by_popularity(data.counts())
        result, fields = tfidf(text, self.config.fields, location=data.dataset)
        context.event(event="text", fields=list(fields))
        vectors = result[ranking]
        words = sparse.csr_array(vectors.T)
        neighbours = nearest_items(
            lambda block: sparse.csr_array(vectors[block] @ words), data.n_items, self.config.neighbours, context
        )
        return {**neighbours, "item": ranking[neighbours["item"]], "near": ranking[neighbours["near"]]}

    def _prepare(self, data: TrainingData, context: RunContext) -> None:
        super()._prepare(data, context)
        n_items = len(self.ranking)
        pairs = (self.arrays["item"], places(self.ranking)[self.arrays["near"]])
        self.similar = sparse.csr_array((self.arrays["similarity"], pairs), shape=(n_items, n_items))

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        histories = requests.histories
        barred = histories if self.config.exclude_seen else None
        value = int(histories.lengths.max(initial=0)) if barred is not None else 0
        weights = weighed(histories, len(self.ranking), self.config.recency)
        columns, scores = best_of_rows(weights @ self.similar, k + value)
        items = np.where(columns == NO_ITEM, NO_ITEM, self.ranking[columns])
        if barred is not None:
            items, scores = without(items, scores, barred, k)
        return fill_up(items, scores, self.ranking, k, barred)

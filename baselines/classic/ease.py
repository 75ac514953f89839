"""EASE: an item-item linear model in closed form. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW
2019, arXiv 1905.03375."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field
from scipy import sparse

from baselines.classic.base import ArrayRecommender, best_of_table, incidence, places, weighed
from harness.errors import InputError, InvalidPredictions
from harness.protocol.context import RunContext
from harness.protocol.predictions import NO_ITEM
from harness.protocol.recommender import ModelConfig, ModelSize
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

ROWS = 1024  # rows of the matrix that are filled at once
CELL = 8 + 4  # bytes at the peak: the Gram matrix in float64, inverted in place, and the weights in float32


class EASEConfig(ModelConfig):
    """Settings chosen on validation of office14, office and beauty (`results/measurements/log-archive.md`)."""

    l2: float = Field(default=200.0, gt=0, description="lambda of the paper: the ridge penalty of the item weights")
    recency: float = Field(
        default=0.5, gt=0, le=1, description="weight of an item relative to the one after it in the history (paper: 1)"
    )
    exclude_seen: bool = Field(default=True, description="never list an item of the history")


class EASE(ArrayRecommender[EASEConfig]):
    """`B = I - P / diag(P)` with `P = (X'X + l2 I)^-1` for the training incidence `X` (users by items, 0 or 1); the
    diagonal of `B` is zero. A user's scores are the history's weights times `B`; an item `a` places before the last has
    weight `recency ** a`. Ties are broken by training count, then by item order.

    Solved in float64, stored in float32. Only the counts are saved; `load` solves the system again and takes as long as
    `fit`.
    """

    config_class = EASEConfig

    def _prepare(self, data: TrainingData, context: RunContext) -> None:
        super()._prepare(data, context)
        require_memory(data)
        self.places = places(self.ranking)
        purchases = sparse.csr_array(incidence(data)[:, self.ranking])
        with context.stage("solve"):
            self.weights = item_weights(purchases, self.config.l2)

    def _load(self, folder: Path, data: TrainingData, context: RunContext) -> None:
        super()._load(folder, data, context)
        if not np.array_equal(self.arrays["counts"], data.counts()):
            message = "the items were bought other numbers of times than when it was fitted"
            raise InputError(
                message, where=str(folder), hint="load it with the data set that it was fitted on", code="incompatible"
            )

    def _lists(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        histories = requests.histories
        weights = weighed(histories, len(self.ranking), self.config.recency)[:, self.ranking].astype(np.float32)
        scores = weights @ self.weights
        if self.config.exclude_seen:
            scores[histories.rows(), self.places[histories.values]] = -np.inf
        columns, best = best_of_table(scores, k)
        return np.where(columns == NO_ITEM, NO_ITEM, self.ranking[columns]), best

    def size(self) -> ModelSize:
        """One weight for each pair of items; none is trained by gradient."""
        return ModelSize(parameters=self.weights.size)


def require_memory(data: TrainingData) -> None:
    """Raises `InputError` if the item matrix does not fit into the free memory."""
    import psutil

    size, free = data.n_items**2 * CELL, psutil.virtual_memory().available
    if size > free:
        raise InputError(
            f"EASE needs {size:,} bytes for {data.n_items:,} x {data.n_items:,} item weights, and {free:,} are free",
            where=data.dataset,
            hint="take a data set of fewer items, or itemknn, whose memory grows with the interactions",
            code="too-large",
        )


def item_weights(purchases: sparse.csr_array, l2: float) -> np.ndarray:
    """`B` as above, float32 (n_items, n_items), from the incidence of users by items."""
    from scipy.linalg import get_lapack_funcs

    by_item = sparse.csr_array(purchases.T)
    n_items = len(by_item.indptr) - 1
    gram = np.zeros((n_items, n_items), order="F")
    for start in range(0, n_items, ROWS):
        block = sparse.csr_array(by_item[np.arange(start, min(start + ROWS, n_items))] @ purchases)
        gram[:, start : start + ROWS] = block.toarray().T
    gram[np.diag_indices(n_items)] += l2
    factor, invert = get_lapack_funcs(("potrf", "potri"), (gram,))
    lower, failed = factor(gram, lower=1, clean=0, overwrite_a=1)  # both work in place
    if not failed:
        lower, failed = invert(lower, lower=1, overwrite_c=1)
    if failed:
        raise InvalidPredictions(f"the Gram matrix of {n_items} items is not positive definite (LAPACK says {failed})")
    weights = np.empty((n_items, n_items), np.float32)
    for start in range(0, n_items, ROWS):
        stop = min(start + ROWS, n_items)
        corner = np.tril(lower[start:stop, start:stop])
        weights[start:stop, start:stop] = corner + np.tril(corner, -1).T
        weights[stop:, start:stop] = lower[stop:, start:stop]
        weights[start:stop, stop:] = lower[stop:, start:stop].T
    weights /= -np.diag(lower).astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights

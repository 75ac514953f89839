"""Base of training-free models: a state of named arrays, and ranking in chunks of users."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from safetensors.numpy import load_file, save_file

from baselines.classic.ranking import CHUNK, by_popularity
from harness.errors import InputError
from harness.protocol.context import RunContext
from harness.protocol.predictions import Predictions
from harness.protocol.recommender import ModelConfig, ModelSize, Recommender
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

FILE = "model.safetensors"
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

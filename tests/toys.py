"""Toy data and contexts, installed in `harness.testing`; here under the name that this project's tests use."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from harness.data.ragged import RaggedArray
from harness.protocol.context import SilentReporter
from harness.protocol.recommender import Recommender
from harness.protocol.split import EvaluationSplit, TrainingData
from harness.protocol.split import split as split_by
from harness.testing.toys import COLOURS, SHAPES, cold, context, cycle, dataset, noise, split, titles

__all__ = [
    "COLOURS",
    "SHAPES",
    "SilentReporter",
    "cold",
    "context",
    "cycle",
    "dataset",
    "fitted",
    "noise",
    "split",
    "split_by",
    "titles",
    "without_last",
]


def without_last(rows: RaggedArray) -> RaggedArray:
    """Every row without its last value."""
    return rows.first(rows.lengths - 1)


_CACHE = tempfile.TemporaryDirectory(prefix="harness-tests-")  # of one process: vectors are computed once
ModelT = TypeVar("ModelT", bound=Recommender[Any])


def fitted(
    model: ModelT,
    folder: Path,
    data: TrainingData | None = None,
    fold: EvaluationSplit | None = None,
    seed: int = 1,
) -> ModelT:
    """`model` fitted on `data` (default: the toy), with `folder / "run"` as its run folder and a cache that all such
    calls of the process share."""
    (folder / "run").mkdir(parents=True, exist_ok=True)
    context_ = replace(context(folder, fold, seed=seed), run_dir=folder / "run", cache=Path(_CACHE.name))
    model.fit(split().train if data is None else data, context_)
    return model

"""Toy data and contexts, installed in `harness.testing`; here under the name that this project's tests use."""

from __future__ import annotations

from harness.data.ragged import RaggedArray
from harness.protocol.context import SilentReporter
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
    "noise",
    "split",
    "split_by",
    "titles",
    "without_last",
]


def without_last(rows: RaggedArray) -> RaggedArray:
    """Every row without its last value."""
    return rows.first(rows.lengths - 1)

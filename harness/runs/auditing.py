"""Metrics of a ranking file for audits, without storing a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.evaluation.code_level import code_level
from harness.evaluation.list_checks import without_history
from harness.evaluation.metrics import compute_metrics
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH
from harness.protocol.split import Split
from harness.runs.rankings import read_rankings

DEEPEST = 200  # items of a list read for `DEPTH` distinct codes


def settled(path: Path, dataset: Dataset, split: Split, depth: int = DEPTH) -> tuple[Predictions, tuple[str, ...]]:
    """Rankings of any file that `harness evaluate` reads, under the split's protocol, at most `depth` items a test
    user; and notes on the file, one line each. Raises `InputError` like `read_rankings`."""
    protocol = split.protocol
    rankings = read_rankings(path, dataset, depth + protocol.depth_asked - DEPTH, split.test)
    lists = rankings.predictions
    if protocol.exclude_history:
        lists = without_history(lists, split.test.requests, depth)
    return lists, tuple(rankings.notes())


def measured_codes(
    path: Path, dataset: Dataset, split: Split, groups: np.ndarray
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Metrics of a file's lists over items and over codes, the difference, and `cut_lists` (see `code_level`); and
    notes on the file. Lists are read deeper, so that shared codes leave enough of them."""
    depth = min(DEEPEST, DEPTH * int(np.bincount(groups).max()))
    lists, notes = settled(path, dataset, split, depth)
    codes = code_level(lists, split.test.targets, groups)
    figures = {
        "file": path.name,
        "items": compute_metrics(lists, split.test.targets),
        "codes": codes["code_level"],
        "added": codes["code_level_delta"],
        "cut_lists": codes["cut_lists"],
    }
    return figures, notes

"""Counts, against numbers counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data.dataset import Dataset, ItemText
from harness.data.loading import load_dataset
from harness.data.statistics import describe
from tests import toys

SHARED = Path(__file__).parents[3] / "shared/data"

TEXT = (ItemText("Pen"), ItemText("pen", "blue ink"), ItemText(), ItemText("Ink", brand="B"), ItemText("Box"))


def small() -> Dataset:
    """3 users who leave-one-out can cut and one it cannot; item 4 is only a test item."""
    rows = [np.array(row) for row in ([0, 1, 2], [1, 1, 0, 1], [0, 2, 3, 3, 4], [2, 4])]
    times = np.array([1, 2, 2, 1, 2, 3, 4, 1, 2, 3, 4, 4, 7, 7.0])
    return replace(toys.dataset(rows, 5, TEXT), timestamps=times)


def test_counts() -> None:
    description = describe(small())
    assert json.loads(json.dumps(description)) == description
    assert (description["users"], description["items"], description["interactions"], description["repeats"]) == (
        4,
        5,
        14,
        3,
    )
    assert description["density"] == 14 / 20
    assert description["length"] == {"min": 2, "mean": 3.5, "median": 3.5, "p90": pytest.approx(4.7), "max": 5}
    assert description["item_count"]["max"] == 4
    assert (
        description["text"]["any"] == 0.8
        and description["text"]["brand"] == 0.2
        and description["text"]["duplicate_titles"] == 2
    )


def test_no_text_no_coverage() -> None:
    assert describe(replace(small(), text=None))["text"] is None


def test_statistics_of_ml_100k() -> None:
    description = describe(load_dataset("ml-100k"))
    assert (description["length"]["min"], description["length"]["max"], description["repeats"]) == (20, 737, 0)


@pytest.mark.realdata
def test_statistics_of_instruments() -> None:
    if not (SHARED / "instruments").is_dir():
        pytest.skip("the real data is not beside the project")
    data = load_dataset(str(SHARED / "instruments"))
    description = describe(data)
    assert (description["users"], description["items"], description["interactions"]) == (24772, 9922, 206153)
    assert (description["length"]["min"], description["length"]["max"]) == (5, 218)
    assert round(description["length"]["mean"], 2) == 8.32

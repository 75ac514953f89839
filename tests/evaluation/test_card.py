"""The report card on a data set that is small enough to count by hand."""

from __future__ import annotations

from itertools import pairwise
from math import log2

import numpy as np
import pytest

from harness.evaluation.card import case_groups, data_card, group_metrics, head_items, list_measures
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import Protocol
from harness.protocol.split import Split, split
from tests import toys

ROWS = [  # training, validation, test
    [0, 1, 2, 3, 4],  # 3 -> 4 stands in the next row
    [3, 4, 5, 0, 6],  # 6 stands with 5 in the next row
    [6, 5, 1, 2, 0],  # 0 stands with 1 and 2 in the first row
    [0, 1, 0, 1, 7],  # 7 was never bought
    [2, 1, 2, 2, 2],  # 2 stands with 1 in this row; 2 -> 2 nowhere
    [6, 6, 6],  # nothing but the target itself in the history
]


@pytest.fixture
def cut() -> Split:
    return split(toys.dataset([np.array(row) for row in ROWS], 8, text=None), Protocol())


def test_groups(cut: Split) -> None:
    result = {group.name: np.flatnonzero(group.rows).tolist() for group in case_groups(cut)}
    assert result == {
        "memorised": [0],
        "one hop": [1, 2, 4],
        "neither": [3, 5],
        "warm": [],
        "rare": [0, 1, 2, 4, 5],
        "cold": [3],
        "head": [2, 4],
        "tail": [0, 1, 3, 5],
        "history to 20": [0, 1, 2, 3, 4, 5],
        "history over 20": [],
    }


def test_the_data_sets_card(cut: Split) -> None:
    card = data_card(cut, case_groups(cut))
    assert (card["users"], card["head_items"], card["head_share_of_training"]) == (6, 3, 10 / 16)
    assert card["groups"][1] == {"by": "distance", "name": "one hop", "users": 3, "share": 0.5}


def test_equal_counts_are_all_head_and_items_without_any_never() -> None:
    assert head_items(np.array([4, 3, 3, 3, 1, 0, 0, 0])).tolist() == [True] * 4 + [False] * 4
    assert head_items(np.array([1, 0, 0, 0, 0, 0, 0, 0, 0, 0])).tolist() == [True] + [False] * 9


def test_a_metric_by_groups(cut: Split) -> None:
    result = {part["name"]: part for part in group_metrics(np.array([1.0, 0, 1, 0, 1, 0]), case_groups(cut))}
    assert result["one hop"]["mean"] == pytest.approx(2 / 3) and result["one hop"]["users"] == 3
    assert 0 <= result["one hop"]["low"] <= 2 / 3 <= result["one hop"]["high"] <= 1
    assert (result["memorised"]["low"], result["memorised"]["mean"], result["memorised"]["high"]) == (1.0, 1.0, 1.0)
    assert result["warm"] == {"by": "training", "name": "warm", "users": 0, "mean": None, "low": None, "high": None}


def test_long_histories_count_whole_not_cut() -> None:
    rows = [np.arange(21), np.arange(22)]  # 20 and 21 items before the target; both are shown the latest 20
    cut = split(toys.dataset(rows, 22, text=None), Protocol())
    assert cut.test.requests.histories.lengths.tolist() == [20, 20]
    result = {group.name: group.rows.tolist() for group in case_groups(cut)}
    assert result["history over 20"] == [False, True]


def test_what_lists_hold(cut: Split) -> None:
    items = np.array([[0, 1, 3], [0, 1, 3], [0, 2, 3], [0, 7, 3], [0, -1, -1], [1, 2, 3]])
    lists = Predictions(np.arange(6), items, np.zeros(items.shape))
    result = list_measures(lists, cut.train, k=2)  # five of item 0, three of 1, two of 2, one of 7
    times = np.array([5, 3, 2, 0, 0, 0, 0, 1])
    assert result["coverage"] == 0.5 and result["popularity_share"] == pytest.approx(10 / 11)
    assert result["gini"] == pytest.approx(np.abs(times[:, None] - times).mean() / (2 * times.mean()))
    bits = 5 * log2(6 / 2) + 3 * log2(6 / 4) + 2 * log2(6 / 2) + log2(6 / 1)
    assert result["novelty"] == pytest.approx(bits / 11)


def test_equal_lists_and_no_lists(cut: Split) -> None:
    same = Predictions(np.arange(8), np.arange(8)[:, None], np.zeros((8, 1)))
    assert list_measures(same, cut.train)["gini"] == 0.0
    none = Predictions(np.arange(2), np.full((2, 3), -1), np.zeros((2, 3)))
    assert list_measures(none, cut.train) == {
        "coverage": 0.0,
        "gini": None,
        "novelty": None,
        "popularity_share": None,
    }


@pytest.mark.parametrize("data", [toys.cycle(), toys.noise(users=80)], ids=["cycle", "noise"])
def test_neighbours_in_plain_python(data: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.evaluation.card.CHUNK", 7)  # several chunks of targets
    cut = split(data, Protocol())  # pyright: ignore[reportArgumentType]
    train = [row.tolist() for row in cut.train.sequences]
    followed = {pair for row in train for pair in pairwise(row)}
    expected = []
    for history, target in zip(cut.test.requests.histories, cut.test.targets.items.tolist(), strict=True):
        rest = set(history.tolist()) - {target}
        if (int(history[-1]), target) in followed:
            expected.append("memorised")
        else:
            expected.append("one hop" if any(target in row and rest & set(row) for row in train) else "neither")
    groups = [group for group in case_groups(cut) if group.by == "distance"]
    assert [next(group.name for group in groups if group.rows[user]) for user in range(len(expected))] == expected

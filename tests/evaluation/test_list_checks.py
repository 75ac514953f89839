"""Taking out the history, and the counts of a run's record."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.ragged import RaggedArray
from harness.errors import InvalidPredictions
from harness.evaluation.metrics import count_list_defects, without_history
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.requests import Requests

REQUESTS = Requests("test", np.array([4, 7, 9]), RaggedArray.of([[1, 2], [5], []]))


def lists(users: list[int], items: list[list[int]]) -> Predictions:
    return Predictions(np.array(users), np.array(items), -np.broadcast_to(np.arange(len(items[0])), np.shape(items)))


def test_history_goes_and_lists_close_up() -> None:
    value = lists([7, 4, 9], [[5, 1, 2, 3], [1, 6, 2, NO_ITEM], [5, 1, 0, 2]])
    remaining = without_history(value, REQUESTS, 3)
    assert remaining.cases.tolist() == [7, 4, 9]
    assert remaining.items.tolist() == [[1, 2, 3], [6, NO_ITEM, NO_ITEM], [5, 1, 0]]
    assert remaining.scores.tolist() == [[-1, -2, -3], [-1, 0, 0], [0, -1, -2]]
    assert remaining.problems(REQUESTS.users, 10) == []


def test_history_agrees_with_a_loop_over_random_lists() -> None:
    random = np.random.default_rng(1)
    histories = [random.integers(0, 12, random.integers(0, 6)) for _ in range(50)]
    requests = Requests("test", np.arange(50), RaggedArray.of(histories))
    value = lists(list(range(50)), [random.permutation(12)[:9].tolist() for _ in range(50)])
    remaining = without_history(value, requests, 5)
    for user in range(50):
        expected = [item for item in value.items[user].tolist() if item not in histories[user]][:5]
        assert remaining.items[user].tolist() == expected + [NO_ITEM] * (5 - len(expected))


def test_lists_of_strangers_are_a_fault() -> None:
    with pytest.raises(InvalidPredictions):
        without_history(lists([4, 5], [[1], [2]]), REQUESTS, 1)


def test_counts() -> None:
    value = lists([4, 9, 5], [[2, 3, 3, NO_ITEM], [-4, 11, 0, 1], [1, 2, 3, 4]])
    assert count_list_defects(value, REQUESTS, 4, n_items=11) == {
        "users_expected": 3,
        "users_scored": 2,
        "short": 1,
        "invalid": 2,
        "duplicate": 1,
        "seen": 1,
    }


def test_counts_look_no_deeper_than_the_depth() -> None:
    value = lists([4, 7, 9], [[3, 1], [0, 5], [2, 2]])
    assert count_list_defects(value, REQUESTS, 1) == {
        "users_expected": 3,
        "users_scored": 3,
        "short": 0,
        "invalid": 0,
        "duplicate": 0,
        "seen": 0,
    }


def test_lists_narrower_than_the_depth_are_all_short() -> None:
    assert count_list_defects(lists([4, 7, 9], [[3], [0], [2]]), REQUESTS, 20)["short"] == 3

"""Taking out the history, and the counts of a run's record."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.ragged import RaggedArray
from harness.errors import InvalidPredictions
from harness.evaluation.list_checks import count_list_defects, without_history
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.requests import Requests

REQUESTS = Requests("test", np.array([4, 7, 9]), RaggedArray.of([[1, 2], [5], []]))


def lists(users: list[int], items: list[list[int]]) -> Predictions:
    return Predictions(np.array(users), np.array(items), -np.broadcast_to(np.arange(len(items[0])), np.shape(items)))


def test_history_goes_and_lists_close_up() -> None:
    given = lists([7, 4, 9], [[5, 1, 2, 3], [1, 6, 2, NO_ITEM], [5, 1, 0, 2]])
    left = without_history(given, REQUESTS, 3)
    assert left.cases.tolist() == [7, 4, 9]
    assert left.items.tolist() == [[1, 2, 3], [6, NO_ITEM, NO_ITEM], [5, 1, 0]]
    assert left.scores.tolist() == [[-1, -2, -3], [-1, 0, 0], [0, -1, -2]]
    assert left.problems(REQUESTS.users, 10) == []


def test_history_agrees_with_a_loop_over_random_lists() -> None:
    random = np.random.default_rng(1)
    histories = [random.integers(0, 12, random.integers(0, 6)) for _ in range(50)]
    requests = Requests("test", np.arange(50), RaggedArray.of(histories))
    given = lists(list(range(50)), [random.permutation(12)[:9].tolist() for _ in range(50)])
    left = without_history(given, requests, 5)
    for user in range(50):
        wanted = [item for item in given.items[user].tolist() if item not in histories[user]][:5]
        assert left.items[user].tolist() == wanted + [NO_ITEM] * (5 - len(wanted))


def test_lists_of_strangers_are_a_fault() -> None:
    with pytest.raises(InvalidPredictions):
        without_history(lists([4, 5], [[1], [2]]), REQUESTS, 1)


def test_counts() -> None:
    given = lists([4, 9, 5], [[2, 3, 3, NO_ITEM], [-4, 11, 0, 1], [1, 2, 3, 4]])
    assert count_list_defects(given, REQUESTS, 4, n_items=11) == {
        "users_expected": 3,
        "users_scored": 2,
        "short": 1,
        "invalid": 2,
        "duplicate": 1,
        "seen": 1,
    }


def test_counts_look_no_deeper_than_the_depth() -> None:
    given = lists([4, 7, 9], [[3, 1], [0, 5], [2, 2]])
    assert count_list_defects(given, REQUESTS, 1) == {
        "users_expected": 3,
        "users_scored": 3,
        "short": 0,
        "invalid": 0,
        "duplicate": 0,
        "seen": 0,
    }


def test_lists_narrower_than_the_depth_are_all_short() -> None:
    assert count_list_defects(lists([4, 7, 9], [[3], [0], [2]]), REQUESTS, 20)["short"] == 3

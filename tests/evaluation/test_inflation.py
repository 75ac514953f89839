"""What a shared code adds at least: against lists of items in every order, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.evaluation.metrics import compute_metrics, least_added, shared_targets
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import METRICS
from harness.protocol.requests import Targets


def test_shared_targets_are_counted_exactly() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2])
    assert shared_targets(groups, np.array([0, 2, 5, 2])) == {"targets": 4, "shared": 2, "share": 0.5}
    assert shared_targets(np.arange(6), np.array([0, 2])) == {"targets": 2, "shared": 0, "share": 0.0}
    assert shared_targets(groups, np.empty(0, np.int64)) == {"targets": 0, "shared": 0, "share": 0.0}


def test_by_hand() -> None:
    result = least_added(np.array([0, 0, 1]), np.array([0, 2]))  # one target of two, in a pair
    assert result["recall@1"] == pytest.approx({"at_first_place": 0.25, "least_share": 0.25})
    assert result["recall@10"] == {"at_first_place": 0.0, "least_share": 0.0}
    assert result["mrr@10"]["at_first_place"] == pytest.approx(0.5 * (1 - 0.75))


def test_one_code_for_all_items() -> None:
    result = least_added(np.zeros(40, np.int64), np.arange(40))
    assert result["recall@20"] == pytest.approx({"at_first_place": 0.5, "least_share": 0.5})
    assert result["recall@1"]["at_first_place"] == pytest.approx(1 - 1 / 40)


def test_distinct_codes_add_nothing() -> None:
    result = least_added(np.array([2, 0, 1]), np.array([0, 1, 1]))
    assert set(result) == set(METRICS)
    assert all(value == 0.0 for added in result.values() for value in added.values())


@pytest.mark.parametrize("size", [2, 3, 12])
def test_against_lists_of_items_with_the_target_at_each_place_of_its_code(size: int) -> None:
    result = least_added(np.zeros(size, np.int64), np.array([0]))
    shares: dict[str, list[float]] = {name: [] for name in METRICS}
    for previous in range(20):  # items of other codes before those of the target's
        items = np.tile(np.arange(1, previous + size + 1), (size, 1))
        items[np.arange(size), previous + np.arange(size)] = 0
        users, expected = np.arange(size), np.zeros(size, np.int64)
        over_items = compute_metrics(Predictions(users, items, np.zeros(items.shape)), Targets(users, expected))
        first = Predictions(users[:1], items[:1], np.zeros(items[:1].shape))
        over_codes = compute_metrics(first, Targets(users[:1], expected[:1]))
        for name in METRICS:
            if over_codes[name]:
                shares[name].append(1 - over_items[name] / over_codes[name])
            if not previous:
                assert result[name]["at_first_place"] == pytest.approx(over_codes[name] - over_items[name])
    for name in METRICS:
        assert result[name]["least_share"] == pytest.approx(min(shares[name]), abs=1e-12)

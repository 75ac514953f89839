"""`measure` against cases scored by hand and against an oracle that shares no code with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InvalidPredictions
from harness.evaluation.metrics import compute_metrics, fuse, per_user
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.protocol import METRICS
from harness.protocol.requests import Targets
from tests.evaluation.oracle import oracle

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/metrics.json").read_text())["cases"]


def padded(lists: list[list[int]], tied: bool = False) -> Predictions:
    """Lists of any length as predictions; with `tied`, every score is equal, so that only the order tells."""
    width = max(1, *(len(row) for row in lists))
    items = np.array([row + [NO_ITEM] * (width - len(row)) for row in lists])
    scores = np.zeros(items.shape) if tied else -np.broadcast_to(np.arange(width), items.shape)
    return Predictions(np.arange(len(lists)), items, scores)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
@pytest.mark.parametrize("tied", [False, True])
def test_cases_scored_by_hand(case: dict[str, Any], tied: bool) -> None:
    targets = np.array(case["targets"])
    scores = compute_metrics(padded(case["lists"], tied), Targets(np.arange(len(targets)), targets))
    assert tuple(scores) == METRICS
    assert scores == pytest.approx(case["metrics"], abs=1e-12)
    assert oracle(case["lists"], case["targets"]) == pytest.approx(case["metrics"], abs=1e-12)


ITEMS = st.integers(0, 30)  # targets beyond 25 are cold: no list has them
LISTS = st.lists(st.lists(st.integers(0, 25), unique=True, max_size=24), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(LISTS, st.data(), st.booleans())
def test_agrees_with_the_oracle(lists: list[list[int]], data: st.DataObject, tied: bool) -> None:
    targets = data.draw(st.lists(ITEMS, min_size=len(lists), max_size=len(lists)))
    scores = compute_metrics(padded(lists, tied), Targets(np.arange(len(lists)), np.array(targets)))
    assert scores == pytest.approx(oracle(lists, targets), abs=1e-12)


def test_per_user_follows_the_targets_not_the_lists() -> None:
    lists = padded([[1], [2], [3]])
    shuffled = Predictions(np.array([8, 3, 5]), lists.items, lists.scores)
    scores = per_user(shuffled, Targets(np.array([3, 5, 8]), np.array([2, 0, 1])))
    assert scores["recall@1"].tolist() == [1.0, 0.0, 1.0]


def test_what_it_is_given_stays_as_it_was() -> None:
    lists, targets = padded([[4, 2, 9]], tied=True), Targets(np.array([0]), np.array([9]))
    previous = lists.items.copy(), lists.scores.copy()
    assert compute_metrics(lists, targets) == compute_metrics(lists, targets)
    assert (lists.items == previous[0]).all() and (lists.scores == previous[1]).all()


@pytest.mark.parametrize(
    ("users", "items"),
    [
        ([0, 1], [[1], [2]]),  # user 2 is missing
        ([0, 1, 2, 3], [[1], [2], [3], [4]]),  # nobody asked for user 3
        ([0, 1, 1], [[1], [2], [3]]),  # user 1 twice
        ([0, 1, 2], [[1, 1], [2, 3], [4, 5]]),  # an item twice
        ([0, 1, 2], [[NO_ITEM, 1], [2, 3], [4, 5]]),  # a gap
        ([0, 1, 2], [[-7, 1], [2, 3], [4, 5]]),  # no item at all
    ],
)
def test_broken_lists_are_an_error_not_a_lower_score(users: list[int], items: list[list[int]]) -> None:
    lists = Predictions(np.array(users), np.array(items), np.zeros(np.shape(items)))
    with pytest.raises(InvalidPredictions):
        compute_metrics(lists, Targets(np.arange(3), np.array([1, 2, 3])))


def test_no_user_at_all_is_an_error() -> None:
    empty = Predictions(np.empty(0), np.empty((0, 1)), np.empty((0, 1)))
    with pytest.raises(InvalidPredictions, match="no user"):
        compute_metrics(empty, Targets(np.empty(0, np.int64), np.empty(0, np.int64)))


def test_large_item_ids_stay_apart() -> None:
    lists = padded([[2**40, 2**40 + 1]])
    assert compute_metrics(lists, Targets(np.array([0]), np.array([2**40 + 1])))["mrr@10"] == 0.5


def test_reciprocal_rank_fusion() -> None:
    """1 / (60 + rank), summed: item 2 is second and first, 5 first and third, 7 third."""
    fused = fuse([padded([[5, 2, 7]]), padded([[2, 9, 5]])], 3)
    assert fused.items.tolist() == [[2, 5, 9]]
    np.testing.assert_allclose(fused.scores[0], [1 / 62 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62])


@pytest.mark.nightly  # numba compiles ranx's fusion
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_fusion_is_ranxs_reciprocal_rank_fusion(members: int, depth: int, seed: int) -> None:
    from ranx import Run
    from ranx.fusion import rrf

    rng = np.random.default_rng(seed)
    drawn = [[rng.permutation(15)[: rng.integers(1, 9)].tolist() for _ in range(5)] for _ in range(members)]
    fused = fuse([padded(lists) for lists in drawn], depth)
    runs = [
        Run({str(case): {str(item): 10.0 - place for place, item in enumerate(row)} for case, row in enumerate(lists)})
        for lists in drawn
    ]
    expected = rrf(runs).to_dict()
    for case in range(5):
        ordered = sorted(expected[str(case)].items(), key=lambda pair: (-round(pair[1], 12), int(pair[0])))[:depth]
        listed = fused.items[case] != NO_ITEM
        assert fused.items[case][listed].tolist() == [int(item) for item, _ in ordered]
        np.testing.assert_allclose(fused.scores[case][listed], [score for _, score in ordered])
    assert not fused.problems(np.arange(5), 15)

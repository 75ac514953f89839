"""Code-level scoring: what a colliding code flatters, against lists scored by hand, and the tokenizer of one code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.ragged import RaggedArray
from harness.errors import InvalidPredictions
from harness.evaluation.metrics import as_codes, code_level, compute_metrics
from harness.generative.decoding.generate import Decoding, Ranker, recommend
from harness.generative.item_codes import CodeTable
from harness.generative.models.encoder_decoder import CodeT5, T5Shape
from harness.generative.trie import CodeTrie
from harness.protocol.predictions import Predictions
from harness.protocol.requests import Requests, Targets
from tests.generative import toy_models


def lists(*rows: list[int]) -> Predictions:
    items = np.array(rows)
    return Predictions(np.arange(len(rows)), items, -np.arange(items.shape[1], dtype=float) * np.ones_like(items))


def test_a_code_counts_once_at_its_first_place() -> None:
    groups = np.array([0, 0, 1, 2, 2])
    codes = as_codes(lists([0, 1, 3, 2], [4, 3, -1, -1]), groups)
    assert codes.items.tolist() == [[0, 2, 1, -1], [2, -1, -1, -1]]
    assert codes.scores[0].tolist() == [0.0, -2.0, -3.0, 0.0]


def test_the_difference_is_what_a_shared_code_adds() -> None:
    groups = np.array([0, 0, 1, 2])
    result = code_level(lists([0, 2, 3], [2, 3, 0]), Targets(np.arange(2), np.array([1, 2])), groups)
    assert result["collision_rate"] == 0.5 and result["affected_targets"] == 0.5
    assert result["code_level"]["recall@1"] == 1.0  # item 1 is nowhere in its list, its code stands first
    assert result["code_level_delta"]["recall@1"] == pytest.approx(0.5)
    assert result["code_level_delta"]["ndcg@10"] == pytest.approx(0.5)
    assert result["cut_lists"] == 0


def test_distinct_codes_add_nothing() -> None:
    value, targets = lists([0, 2, 3], [2, 3, 0]), Targets(np.arange(2), np.array([3, 1]))
    result = code_level(value, targets, np.array([3, 1, 0, 2]))
    assert result["code_level"] == compute_metrics(value, targets) and set(result["code_level_delta"].values()) == {0.0}
    assert result["collision_rate"] == 0.0


def test_groups_of_another_catalogue_are_a_fault() -> None:
    with pytest.raises(InvalidPredictions, match="do not cover"):
        code_level(lists([0, 2]), Targets(np.arange(1), np.array([0])), np.array([0, 1]))


def test_a_tokenizer_of_one_code_scores_like_a_random_list(tmp_path: Path) -> None:
    """USERS.md, pain 3: by codes it would be perfect."""
    torch.manual_seed(1)
    items, users = 50, 400
    table = CodeTable(np.zeros((items, 2), dtype=np.int64), (1, 1))
    model = CodeT5(table.sizes, T5Shape(1, 16, 2, 8, 16))
    requests = Requests("test", np.arange(users), RaggedArray.of([[user % items] for user in range(users)]))
    targets = Targets(np.arange(users), (np.arange(users) * 7) % items)  # each item is as often the answer
    how = Decoding(20, 64, "float32")
    value, _ = recommend(
        Ranker(model, CodeTrie(table), lambda history: [1]), requests, 20, how, toy_models.context(tmp_path)
    )
    result = code_level(value, targets, table.groups)
    scores = compute_metrics(value, targets)
    assert scores["recall@10"] == pytest.approx(10 / items) and scores["recall@20"] == pytest.approx(20 / items)
    assert result["code_level"]["recall@1"] == 1.0 and result["collision_rate"] == 1.0
    assert result["code_level_delta"]["recall@10"] == pytest.approx(1 - 10 / items)
    assert result["cut_lists"] == users


def test_the_order_within_a_code_never_looks_at_the_target() -> None:
    table = CodeTable(np.zeros((9, 1), dtype=np.int64), (1,))
    first = CodeTrie(table).items_of(0)
    assert sorted(first) == list(range(9)) and first.tolist() != list(range(9))
    np.testing.assert_array_equal(first, CodeTrie(table).items_of(0))

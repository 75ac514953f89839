"""The search against transformers' own `generate` under a correct constraint: ordered lists and scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import GenerationConfig

from harness.data.ragged import RaggedArray
from harness.generative.decoding.generate import Decoding, Ranker, recommend
from harness.generative.exporting import PrefixTree, generate, with_grown_vocabulary
from harness.generative.item_codes import CodeTable
from harness.generative.trie import CodeTrie
from harness.protocol.requests import Requests
from tests.generative import toy_models

ARCHITECTURES = ("llama", "gpt2", "qwen2", "mistral")
USERS = 6


def both(folder: Path, kind: str, codes: CodeTable, beams: int, hostile: bool = False) -> list[np.ndarray]:
    """Items and scores by the engine, then by `generate`, for users with histories of one to six items."""
    model, context = toy_models.code_lm(folder, codes, kind), toy_models.context(folder)
    if hostile:
        model.body.generation_config = GenerationConfig(  # type: ignore[union-attr]
            num_beams=2, max_new_tokens=1, do_sample=True, temperature=9.0, repetition_penalty=3.0, eos_token_id=5
        )
    histories = [np.arange(user, 2 * user + 1) % codes.n_items for user in range(USERS)]

    def prompt(history: np.ndarray) -> list[int]:
        return [9, 8, 7, *(codes.flat[history] + model.vocabulary).reshape(-1).tolist()]

    requests = Requests("test", np.arange(USERS), RaggedArray.of(histories))
    how = Decoding(beams, 4, "float32", "vocabulary")
    actual, report = recommend(Ranker(model, CodeTrie(codes), prompt), requests, beams, how, context)
    assert report.reader == "SharedReader"
    tree = PrefixTree(codes, model.vocabulary, model.eos)
    reference = generate(with_grown_vocabulary(model), tree, [prompt(history) for history in histories], beams)
    return [actual.items, actual.scores, *reference]


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("beams", [20, 50, 100])
def test_ordered_lists_and_scores_are_equal(tmp_path: Path, kind: str, beams: int) -> None:
    items, scores, reference, expected = both(tmp_path, kind, toy_models.table(130, (20, 5, 3)), beams)
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    for row, other, gaps in zip(items, reference, -np.diff(expected), strict=True):
        near = np.concatenate([[False], gaps < 1e-4]) | np.concatenate([gaps < 1e-4, [False]])
        np.testing.assert_array_equal(row[~near], other[~near])  # what rounding can tell apart
        assert near.mean() < 0.2 and set(row) == set(other)


def test_twenty_beams_give_the_same_order_to_the_last_place(tmp_path: Path) -> None:
    items, scores, reference, expected = both(tmp_path, "llama", toy_models.table(60, (8, 5, 3)), 20)
    np.testing.assert_array_equal(items, reference)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_generation_settings_of_a_model_are_not_taken_over(tmp_path: Path) -> None:
    codes = toy_models.table(60, (8, 5, 3))
    for plain, hostile in zip(
        both(tmp_path, "llama", codes, 20), both(tmp_path, "llama", codes, 20, True), strict=True
    ):
        np.testing.assert_array_equal(plain, hostile)


def test_the_constraint_of_the_reference_is_the_trie() -> None:
    codes = CodeTable(np.array([[0, 1], [0, 2], [1, 0]]), (2, 3))
    tree = PrefixTree(codes, vocabulary=10, eos=3)
    assert tree.allowed([]) == [10, 11]
    assert tree.allowed([10]) == [13, 14] and tree.allowed([11]) == [12]
    assert tree.allowed([10, 13]) == [3] and tree.item[(11, 12)] == 2

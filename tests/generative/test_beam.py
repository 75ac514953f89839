"""The beam search against a slow, obvious one: every item scored by itself, no cache, no batch, no trie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.ragged import Ragged
from harness.generative.beam import Normalise, beam_search
from harness.generative.code_lm import CodeLM
from harness.generative.codes import CodeTable
from harness.generative.decoding import Decoding, recommend
from harness.generative.trie import CodeTrie
from harness.protocol.predictions import NOBODY
from harness.protocol.requests import Requests
from tests.generative import models

ARCHITECTURES = ("llama", "gpt2", "qwen2", "mistral")


@torch.inference_mode()
def log_probabilities(model: CodeLM, prompt: list[int], code: np.ndarray) -> list[float]:
    """Of each token of one code, among its level, by one plain forward pass over prompt and code."""
    flat = [int(digit) + offset + model.vocabulary for digit, offset in zip(code, model.offsets[:-1], strict=True)]
    states = model.states(torch.tensor([prompt + flat]))[0]
    return [
        float(torch.log_softmax(model.level_logits(states[len(prompt) - 1 + level], level), -1)[digit])
        for level, digit in enumerate(code)
    ]


def among_children(codes: CodeTable, steps: np.ndarray) -> np.ndarray:
    """Log-probabilities (items, levels) normalised again over the tokens that follow each item's own prefix."""
    result = np.empty_like(steps)
    for item, code in enumerate(codes.digits):
        for level in range(codes.levels):
            same = (codes.digits[:, :level] == code[:level]).all(axis=1)
            chances = {int(codes.digits[other, level]): np.exp(steps[other, level]) for other in np.flatnonzero(same)}
            result[item, level] = steps[item, level] - np.log(sum(chances.values()))
    return result


def reference(
    model: CodeLM, codes: CodeTable, prompt: list[int], beams: int, normalise: Normalise = "level"
) -> list[tuple[int, float]]:
    """Beam search by the book: the best `beams` prefixes of real codes of each length; (item, score), best first."""
    steps = np.array([log_probabilities(model, prompt, code) for code in codes.digits])
    scores = np.cumsum(steps if normalise == "level" else among_children(codes, steps), axis=1)
    live = list(range(codes.n_items))
    for level in range(codes.levels):
        prefixes: dict[tuple[int, ...], float] = {}
        for item in live:
            prefixes[tuple(codes.digits[item, : level + 1])] = scores[item][level]
        kept = set(sorted(prefixes, key=lambda prefix: -prefixes[prefix])[:beams])
        live = [item for item in live if tuple(codes.digits[item, : level + 1]) in kept]
    return sorted(((item, float(scores[item][-1])) for item in live), key=lambda pair: -pair[1])


def prompts(count: int, length: int) -> torch.Tensor:
    return torch.randint(1, 250, (count, length), generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("beams", [3, 10, 30])
@pytest.mark.parametrize("normalise", ["level", "children"])
def test_lists_and_scores_equal_the_reference(tmp_path: Path, kind: str, beams: int, normalise: Normalise) -> None:
    codes = models.table()
    model = models.code_lm(tmp_path, codes, kind)
    asked = prompts(3, 9)
    items, scores = beam_search(model, CodeTrie(codes), asked, beams, beams, normalise)
    for row, prompt in enumerate(asked.tolist()):
        expected = reference(model, codes, prompt, beams, normalise)
        assert [item for item in items[row] if item != NOBODY] == [item for item, _ in expected]
        np.testing.assert_allclose(scores[row, : len(expected)], [score for _, score in expected], atol=1e-4)


def test_all_beams_give_every_item_once(tmp_path: Path) -> None:
    codes = models.table(items=30)
    model = models.code_lm(tmp_path, codes)
    items, _ = beam_search(model, CodeTrie(codes), prompts(2, 5), 60, 40)
    assert [sorted(row[row != NOBODY].tolist()) for row in items] == [list(range(30))] * 2


def test_a_small_catalogue_gives_short_lists(tmp_path: Path) -> None:
    codes = models.table(items=7)
    items, _ = beam_search(models.code_lm(tmp_path, codes), CodeTrie(codes), prompts(2, 5), 20, 20)
    assert (items[:, 7:] == NOBODY).all() and (items[:, :7] != NOBODY).all()


def test_a_shared_code_gives_all_its_items_side_by_side(tmp_path: Path) -> None:
    digits = np.concatenate([models.table(items=10).digits, models.table(items=10).digits[:1]])
    codes = CodeTable(digits, (4, 5, 3))
    items, scores = beam_search(models.code_lm(tmp_path, codes), CodeTrie(codes), prompts(1, 5), 20, 20)
    first, second = np.flatnonzero(items[0] == 0)[0], np.flatnonzero(items[0] == 10)[0]
    assert abs(first - second) == 1 and scores[0, first] == scores[0, second]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_lists_do_not_depend_on_the_batch(tmp_path: Path, kind: str) -> None:
    codes = models.table()
    model, trie = models.code_lm(tmp_path, codes, kind), CodeTrie(codes)
    rng = np.random.default_rng(5)
    histories = Ragged.of([rng.integers(0, 30, rng.integers(1, 6)) for _ in range(40)])
    requests = Requests("test", np.arange(40), histories)

    def prompt(history: np.ndarray) -> list[int]:
        return [5, 6, *(codes.flat[history] + model.vocabulary).reshape(-1).tolist()]

    lists = [
        recommend(model, trie, requests, prompt, 10, Decoding(10, batch, "float32"), models.context(tmp_path))
        for batch in (1, 7, 64)
    ]
    for other in lists[1:]:
        np.testing.assert_array_equal(lists[0].items, other.items)
        np.testing.assert_allclose(lists[0].scores, other.scores, atol=1e-4)


def test_out_of_memory_makes_batches_smaller_and_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.generative import decoding

    codes = models.table()
    model, trie = models.code_lm(tmp_path, codes), CodeTrie(codes)
    requests = Requests("test", np.arange(12), Ragged.of([[i] for i in range(12)]))

    def prompt(history: np.ndarray) -> list[int]:
        return (codes.flat[history] + model.vocabulary).reshape(-1).tolist()

    def run() -> np.ndarray:
        how = Decoding(10, 12, "float32")
        return recommend(model, trie, requests, prompt, 10, how, models.context(tmp_path)).items

    whole = run()
    sizes: list[tuple[int, int]] = []

    def tight(
        model: CodeLM, trie: CodeTrie, ids: torch.Tensor, beams: int, k: int, normalise: Normalise
    ) -> tuple[np.ndarray, np.ndarray]:
        sizes.append((len(ids), beams))
        if len(ids) > 3:
            raise torch.OutOfMemoryError
        return beam_search(model, trie, ids, beams, k, normalise)

    monkeypatch.setattr(decoding, "beam_search", tight)
    np.testing.assert_array_equal(run(), whole)
    assert [size for size, _ in sizes] == [12, 6, 3, 3, 3, 3] and {beams for _, beams in sizes} == {10}

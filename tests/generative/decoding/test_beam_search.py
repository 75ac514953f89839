"""The beam search against a slow, obvious one: every item scored by itself, no cache, no batch, no trie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.generative.config import ScoreNormalization
from harness.generative.decoding import beam_search as beam
from harness.generative.decoding.beam_search import Search, beam_search, rank_all, score_all
from harness.generative.item_codes import CodeTable
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.readers import PlainReader, PromptBatch, SharedReader
from harness.generative.trie import CodeTrie
from harness.protocol.predictions import NO_ITEM
from tests.generative import toy_models

ARCHITECTURES = ("llama", "gpt2", "qwen2", "mistral")
MODES: tuple[ScoreNormalization, ...] = ("level", "children", "vocabulary")


@torch.inference_mode()
def log_probabilities(model: CodeLM, prompt: list[int], code: np.ndarray, complete: bool) -> list[float]:
    """Of each token of one code, among its level or (`whole`) among the vocabulary with the end behind it, by one plain
    forward pass over prompt and code."""
    flat = [int(digit) + offset + model.vocabulary for digit, offset in zip(code, model.offsets[:-1], strict=True)]
    states = model.states(torch.tensor([prompt + flat]))[0, len(prompt) - 1 :]
    if complete:
        logs = torch.log_softmax(model.vocabulary_logits(states), dim=-1)
        return [float(logs[place, token]) for place, token in enumerate([*flat, model.eos])]
    return [
        float(torch.log_softmax(model.level_logits(states[level], level), -1)[digit])
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
    model: CodeLM, codes: CodeTable, prompt: list[int], beams: int, normalise: ScoreNormalization = "level"
) -> list[tuple[int, float]]:
    """Beam search by the book: the best `beams` prefixes of real codes of each length; (item, score), best first."""
    steps = np.array([log_probabilities(model, prompt, code, normalise == "vocabulary") for code in codes.digits])
    scores = np.cumsum(among_children(codes, steps) if normalise == "children" else steps, axis=1)
    live = list(range(codes.n_items))
    for level in range(codes.levels):
        prefixes: dict[tuple[int, ...], float] = {}
        for item in live:
            prefixes[tuple(codes.digits[item, : level + 1])] = scores[item][level]
        stored = set(sorted(prefixes, key=lambda prefix: -prefixes[prefix])[:beams])
        live = [item for item in live if tuple(codes.digits[item, : level + 1]) in stored]
    return sorted(((item, float(scores[item][-1])) for item in live), key=lambda pair: -pair[1])


def prompts(count: int, length: int) -> PromptBatch:
    ids = torch.randint(1, 250, (count, length), generator=torch.Generator().manual_seed(length))
    return PromptBatch(ids, torch.ones_like(ids, dtype=torch.bool))


def searching(
    model: CodeLM, codes: CodeTable, normalise: ScoreNormalization = "level", lead: tuple[int, ...] = ()
) -> Search:
    return Search(model, CodeTrie(codes), SharedReader(model, lead), normalise)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("beams", [3, 10, 30])
@pytest.mark.parametrize("normalise", MODES)
def test_lists_and_scores_equal_the_reference(
    tmp_path: Path, kind: str, beams: int, normalise: ScoreNormalization
) -> None:
    codes = toy_models.table()
    model = toy_models.code_lm(tmp_path, codes, kind)
    requested = prompts(3, 9)
    items, scores = beam_search(searching(model, codes, normalise), requested, beams, beams)
    for row, prompt in enumerate(requested.ids.tolist()):
        expected = reference(model, codes, prompt, beams, normalise)
        assert [item for item in items[row] if item != NO_ITEM] == [item for item, _ in expected]
        np.testing.assert_allclose(scores[row, : len(expected)], [score for _, score in expected], atol=1e-4)


@pytest.mark.parametrize("normalise", MODES)
def test_double_precision_agrees_closely(tmp_path: Path, normalise: ScoreNormalization) -> None:
    codes = toy_models.table()
    model = toy_models.code_lm(tmp_path, codes).double()
    requested = prompts(2, 6)
    scores = score_all(searching(model, codes, normalise), requested, block=7)
    for row, prompt in enumerate(requested.ids.tolist()):
        expected = sorted(
            reference(model, codes, prompt, 30, normalise), key=lambda pair: codes.digits[pair[0]].tolist()
        )
        # level_logits and the normaliser hand out single precision, so that is what can be asked of a sum
        np.testing.assert_allclose(scores[row].double().numpy(), [score for _, score in expected], atol=1e-5)


@pytest.mark.parametrize("normalise", MODES)
def test_all_items_scored_give_what_beams_for_all_give(tmp_path: Path, normalise: ScoreNormalization) -> None:
    codes = toy_models.table(50, (5, 4, 6))
    model, requested = toy_models.code_lm(tmp_path, codes), prompts(3, 7)
    items, scores = beam_search(searching(model, codes, normalise), requested, 60, 20)
    complete, exact = rank_all(searching(model, codes, normalise), requested, 20)
    np.testing.assert_array_equal(items, complete)
    np.testing.assert_allclose(scores, exact, atol=1e-4)


@pytest.mark.parametrize("piece", [1, 6, 17, 50])
def test_exact_scores_do_not_depend_on_the_pieces(tmp_path: Path, piece: int) -> None:
    codes = toy_models.table(50, (5, 4, 6))
    model, requested = toy_models.code_lm(tmp_path, codes), prompts(2, 7)
    for normalise in MODES:
        search = searching(model, codes, normalise, lead=(7, 8))
        torch.testing.assert_close(
            score_all(search, requested, piece), score_all(search, requested, 1000), atol=1e-4, rtol=0
        )


def test_a_narrow_beam_loses_what_scoring_all_items_finds(tmp_path: Path) -> None:
    codes = toy_models.table(60, (8, 5, 3))
    model, requested = toy_models.code_lm(tmp_path, codes), prompts(20, 7)
    narrow, _ = beam_search(searching(model, codes), requested, 2, 2)
    exact, best = rank_all(searching(model, codes), requested, 2)
    assert (narrow != exact).any()
    assert (np.diff(best, axis=1) <= 0).all()


def test_pieces_of_a_step_bound_its_memory_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = toy_models.table()
    model, requested = toy_models.code_lm(tmp_path, codes), prompts(9, 5)
    complete = beam_search(searching(model, codes), requested, 10, 10)
    monkeypatch.setattr(beam, "ENTRIES", 20)
    pieces = beam_search(searching(model, codes), requested, 10, 10)
    np.testing.assert_array_equal(complete[0], pieces[0])
    np.testing.assert_allclose(complete[1], pieces[1], atol=1e-5)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_reading_beams_one_by_one_gives_the_same(tmp_path: Path, kind: str) -> None:
    codes = toy_models.table()
    model = toy_models.code_lm(tmp_path, codes, kind)
    requested = PromptBatch.of([[4, 5, 6, 7], [9, 8], [3]], "cpu")
    shared = beam_search(Search(model, CodeTrie(codes), SharedReader(model, [1, 2])), requested, 10, 10)
    plain = beam_search(Search(model, CodeTrie(codes), PlainReader(model, [1, 2], rows=4)), requested, 10, 10)
    np.testing.assert_array_equal(shared[0], plain[0])
    np.testing.assert_allclose(shared[1], plain[1], atol=1e-4)


def test_equal_scores_keep_the_order_of_the_trie(tmp_path: Path) -> None:
    codes = toy_models.table(items=40, sizes=(4, 5, 3))
    model = toy_models.code_lm(tmp_path, codes)
    with torch.no_grad():
        model.code_out.zero_()
    items, _ = beam_search(searching(model, codes), prompts(2, 5), 10, 10)
    first = np.lexsort(codes.digits.T[::-1])[:10]
    np.testing.assert_array_equal(items, [first, first])


def test_all_beams_give_every_item_once(tmp_path: Path) -> None:
    codes = toy_models.table(items=30)
    items, _ = beam_search(searching(toy_models.code_lm(tmp_path, codes), codes), prompts(2, 5), 60, 40)
    assert [sorted(row[row != NO_ITEM].tolist()) for row in items] == [list(range(30))] * 2


def test_a_small_catalogue_gives_short_lists(tmp_path: Path) -> None:
    codes = toy_models.table(items=7)
    search = searching(toy_models.code_lm(tmp_path, codes), codes, "vocabulary")
    for items, scores in (beam_search(search, prompts(2, 5), 20, 20), rank_all(search, prompts(2, 5), 20)):
        assert (items[:, 7:] == NO_ITEM).all() and (items[:, :7] != NO_ITEM).all()
        assert (scores[:, 7:] == 0).all()


def test_a_shared_code_gives_all_its_items_side_by_side(tmp_path: Path) -> None:
    digits = np.concatenate([toy_models.table(items=10).digits, toy_models.table(items=10).digits[:1]])
    codes = CodeTable(digits, (4, 5, 3))
    items, scores = beam_search(searching(toy_models.code_lm(tmp_path, codes), codes), prompts(1, 5), 20, 20)
    first, second = np.flatnonzero(items[0] == 0)[0], np.flatnonzero(items[0] == 10)[0]
    assert abs(first - second) == 1 and scores[0, first] == scores[0, second]


@pytest.mark.parametrize("normalise", MODES)
@pytest.mark.parametrize("sizes", [(5, 4, 6), (4, 3, 2)])  # all codes differ; many are shared
def test_lists_without_viewed_items_are_the_others_in_their_order(
    tmp_path: Path, normalise: ScoreNormalization, sizes: tuple[int, ...]
) -> None:
    codes = toy_models.table(50, sizes)
    search, requested = searching(toy_models.code_lm(tmp_path, codes), codes, normalise), prompts(3, 7)
    every, scores = rank_all(search, requested, 50)
    viewed = [every[0, :12], every[1, [0, 0, 3]], np.empty(0, np.int64)]
    for items, values in (beam_search(search, requested, 50, 38, viewed), rank_all(search, requested, 38, viewed)):
        for row, local in enumerate(viewed):
            remaining = ~np.isin(every[row], local)
            assert items[row].tolist() == every[row][remaining][:38].tolist()
            np.testing.assert_allclose(values[row], scores[row][remaining][:38], atol=1e-4)


def test_a_narrow_beam_is_not_spent_on_viewed_items(tmp_path: Path) -> None:
    codes = toy_models.table(60, (8, 5, 3))
    search, requested = searching(toy_models.code_lm(tmp_path, codes), codes), prompts(4, 7)
    viewed = list(rank_all(search, requested, 30)[0])
    items, _ = beam_search(search, requested, 10, 10, viewed)
    assert (items != NO_ITEM).all()
    assert not any(np.isin(row, local).any() for row, local in zip(items, viewed, strict=True))

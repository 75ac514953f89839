"""From requests to lists: batches, padding, shared leads, memory, contexts, and what the record says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data.ragged import RaggedArray
from harness.errors import InputError, InvalidPredictions
from harness.generative.config import ScoreNormalization
from harness.generative.decoding import generate
from harness.generative.decoding.beam_search import Search, beam_search
from harness.generative.decoding.generate import Beams, Decoding, Ranker, common_prefix, recommend
from harness.generative.item_codes import CodeTable
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.precision import autocast
from harness.generative.models.readers import (
    PROBE_TOLERANCE,
    PlainReader,
    PromptBatch,
    SharedReader,
    can_share,
    reader_for,
)
from harness.generative.trie import CodeTrie
from harness.protocol.predictions import NO_ITEM
from harness.protocol.requests import Requests
from tests.generative import toy_models

ARCHITECTURES = ("llama", "gpt2", "qwen2", "mistral")
PLAIN = Decoding(10, 64, "float32")


@dataclass
class Asked:
    """A model, its codes and forty users with histories of one to five items."""

    model: CodeLM
    codes: CodeTable
    folder: Path
    lead: tuple[int, ...] = (5, 6, 7)

    def requests(self, users: int = 40) -> Requests:
        rng = np.random.default_rng(5)
        rows = [rng.integers(0, self.codes.n_items, rng.integers(1, 6)) for _ in range(users)]
        return Requests("test", np.arange(users), RaggedArray.of(rows))

    def prompt(self, history: np.ndarray) -> list[int]:
        return [*self.lead, *(self.codes.flat[history] + self.model.vocabulary).reshape(-1).tolist()]

    def lists(self, how: Decoding, k: int = 10, users: int = 40) -> Any:
        trie, context = CodeTrie(self.codes), toy_models.context(self.folder)
        return recommend(Ranker(self.model, trie, self.prompt), self.requests(users), k, how, context)


def toy_case(folder: Path, kind: str = "llama", codes: CodeTable | None = None) -> Asked:
    codes = codes or toy_models.table()
    return Asked(toy_models.code_lm(folder, codes, kind), codes, folder)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("normalise", ["level", "vocabulary"])
def test_lists_do_not_depend_on_the_batch(tmp_path: Path, kind: str, normalise: ScoreNormalization) -> None:
    result = toy_case(tmp_path, kind)
    lists = [result.lists(Decoding(10, batch, "float32", normalise)) for batch in (1, 7, 64)]
    for other, report in lists[1:]:
        np.testing.assert_array_equal(lists[0][0].items, other.items)
        np.testing.assert_allclose(lists[0][0].scores, other.scores, atol=1e-4)
        assert report.reader == "SharedReader" and report.shared_tokens == 3


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_padded_prompt_gives_what_it_gives_alone(tmp_path: Path, kind: str) -> None:
    result = toy_case(tmp_path, kind)
    prompts = [[4, 5, 6, 7, 8, 9, 10], [9, 8], [3], [11, 12, 13, 14]]
    for lead in ([], [1, 2]):
        search = Search(result.model, CodeTrie(result.codes), SharedReader(result.model, lead), "vocabulary")
        alone = [beam_search(search, PromptBatch.of([prompt], "cpu"), 10, 10) for prompt in prompts]
        for side in ("left", "right"):
            items, scores = beam_search(search, PromptBatch.of(prompts, "cpu", side), 10, 10)
            np.testing.assert_array_equal(items, np.concatenate([one for one, _ in alone]))
            np.testing.assert_allclose(scores, np.concatenate([one for _, one in alone]), atol=1e-4)


def test_what_all_prompts_share_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = toy_case(tmp_path)
    read: list[int] = []
    states = CodeLM.states
    monkeypatch.setattr(
        CodeLM, "states", lambda self, ids, **location: (read.append(ids.numel()), states(self, ids, **location))[1]
    )
    _, report = result.lists(Decoding(10, 40, "float32"))
    with_lead = sum(read)
    read.clear()
    result.lead = ()
    result.lists(Decoding(10, 40, "float32"))
    assert report.shared_tokens == 3
    assert with_lead - sum(read) <= 3 + 2  # the lead, and the two tokens by which the probes may differ


@pytest.mark.parametrize("prompts", [[[1, 2, 3]], [[1, 2], [1, 2]], [[4], [5]], [[1, 2, 3], [1, 2, 4, 5]], []])
def test_each_prompt_keeps_a_token_of_its_own(prompts: list[list[int]]) -> None:
    lead = common_prefix(prompts)
    assert all(prompt[: len(lead)] == lead and len(prompt) > len(lead) for prompt in prompts)


@pytest.mark.parametrize("words", ["cuda", "cpu"])
def test_out_of_memory_makes_batches_smaller_and_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    built = toy_case(tmp_path)
    complete, _ = built.lists(Decoding(10, 12, "float32"), users=12)
    sizes: list[tuple[int, int]] = []

    def tight(search: Search, prompts: PromptBatch, beams: int, k: int, *rest: Any) -> tuple[np.ndarray, np.ndarray]:
        sizes.append((len(prompts.ids), beams))
        if len(prompts.ids) > 3:
            raise torch.OutOfMemoryError if words == "cuda" else RuntimeError("DefaultCPUAllocator: not enough memory")
        return beam_search(search, prompts, beams, k, *rest)

    monkeypatch.setattr(generate, "beam_search", tight)
    result, report = built.lists(Decoding(10, 12, "float32"), users=12)
    np.testing.assert_array_equal(result.items, complete.items)
    assert {beams for _, beams in sizes} == {10} and max(size for size, _ in sizes[-4:]) <= 3
    assert (report.batch_asked, report.batch, report.users_scored) == (12, sizes[-1][0], 12)


def test_a_fault_is_not_taken_for_a_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(generate, "beam_search", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        toy_case(tmp_path).lists(PLAIN)


def test_a_prompt_too_long_for_the_context_loses_its_oldest_items(tmp_path: Path) -> None:
    result = toy_case(tmp_path)
    complete, previous = result.lists(PLAIN)
    result.model.body.config.max_position_embeddings = 3 + 2 * 3 + 3  # lead, two items, the code asked for
    cut, report = result.lists(PLAIN)
    lengths = result.requests().histories.lengths
    assert (previous.shortened_prompts, previous.dropped_items) == (0, 0)
    assert report.shortened_prompts == (lengths > 2).sum()
    assert report.dropped_items == (lengths - 2).clip(min=0).sum()
    np.testing.assert_array_equal(cut.items[lengths <= 2], complete.items[lengths <= 2])
    recent = Requests("test", np.arange(40), RaggedArray.of([history[-2:] for history in result.requests().histories]))
    expected, _ = recommend(
        Ranker(result.model, CodeTrie(result.codes), result.prompt), recent, 10, PLAIN, toy_models.context(tmp_path)
    )
    np.testing.assert_array_equal(cut.items, expected.items)


def test_a_context_without_room_for_any_prompt_is_refused(tmp_path: Path) -> None:
    result = toy_case(tmp_path)
    result.model.body.config.max_position_embeddings = 5
    with pytest.raises(InputError, match=r"has 3 tokens, .* leaves 2"):
        result.lists(PLAIN)


@pytest.mark.parametrize("normalise", ["level", "vocabulary"])
def test_scoring_all_items_is_a_setting(tmp_path: Path, normalise: ScoreNormalization) -> None:
    result = toy_case(tmp_path)
    wide, _ = result.lists(Decoding(30, 64, "float32", normalise))
    every, report = result.lists(Decoding("all", 64, "float32", normalise))
    np.testing.assert_array_equal(wide.items, every.items)
    assert report.beams == "all" and report.codes == 30


def test_the_report_counts_lists(tmp_path: Path) -> None:
    _, report = toy_case(tmp_path, codes=toy_models.table(items=7)).lists(Decoding(5, 16, "float32"), k=10)
    counts = {
        name: getattr(report, name) for name in ("users_expected", "users_scored", "short", "invalid", "duplicate")
    }
    assert counts == {"users_expected": 40, "users_scored": 40, "short": 40, "invalid": 0, "duplicate": 0}
    assert report.beams == 10  # at least as many as items are asked


@pytest.mark.parametrize("fault", ["short", "invalid", "duplicate"])
def test_a_list_that_breaks_the_promise_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def wrong(search: Search, prompts: PromptBatch, beams: int, k: int, *rest: Any) -> tuple[np.ndarray, np.ndarray]:
        items, scores = beam_search(search, prompts, beams, k, *rest)
        items[0, -1] = {"short": NO_ITEM, "invalid": 99, "duplicate": items[0, 0]}[fault]
        return items, scores

    monkeypatch.setattr(generate, "beam_search", wrong)
    with pytest.raises(InvalidPredictions, match="1 " if fault != "short" else "1 of them shorter than 10"):
        toy_case(tmp_path).lists(PLAIN, users=1)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_these_architectures_share_their_prompt(tmp_path: Path, kind: str) -> None:
    assert can_share(toy_case(tmp_path, kind).model)


def test_rounding_of_mixed_precision_is_no_reason_to_read_the_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty layers round away more than the probe forgives; here the probe forgives next to nothing."""
    monkeypatch.setitem(PROBE_TOLERANCE, torch.float32, 1e-5)
    model = toy_case(tmp_path).model
    with torch.autocast("cpu", torch.bfloat16):
        assert can_share(model)


def test_a_model_without_a_cache_is_read_the_plain_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = toy_case(tmp_path)
    expected, fast = built.lists(PLAIN, users=6)
    body = type(built.model.body)
    forward = body.forward
    monkeypatch.setattr(
        body, "forward", lambda self, inputs_embeds, use_cache: forward(self, inputs_embeds=inputs_embeds)
    )
    result, report = built.lists(PLAIN, users=6)
    assert (fast.reader, report.reader) == ("SharedReader", "PlainReader")
    np.testing.assert_array_equal(result.items, expected.items)


@pytest.mark.parametrize("ignored", ["attention_mask", "position_ids", "past_key_values"])
def test_a_model_that_ignores_what_sharing_needs_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    result = toy_case(tmp_path)
    body = type(result.model.body)
    forward = body.forward
    monkeypatch.setattr(
        body, "forward", lambda self, **location: forward(self, **{k: v for k, v in location.items() if k != ignored})
    )
    assert not can_share(result.model)


def test_a_sliding_window_shorter_than_the_prompt_is_left_to_the_model(tmp_path: Path) -> None:
    model = toy_case(tmp_path, "mistral").model
    model.body.config.sliding_window = 30
    assert isinstance(reader_for(model, [], 30, 10), SharedReader)
    assert isinstance(reader_for(model, [], 31, 10), PlainReader)


def test_bfloat16_keeps_beams_and_length(tmp_path: Path) -> None:
    result = toy_case(tmp_path)
    exact, _ = result.lists(PLAIN)
    rounded, report = result.lists(Decoding(10, 64, "bfloat16"))
    assert report.precision == "bfloat16" and (rounded.lengths == 10).all()
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.items, rounded.items, strict=True)])
    assert overlap > 0.8
    with autocast("cpu", "bfloat16"):
        assert result.model.states(torch.tensor([[1, 2]])).dtype in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("beams", [10, "all"])
def test_no_list_names_an_item_of_its_history(tmp_path: Path, beams: Beams) -> None:
    result = toy_case(tmp_path, codes=toy_models.table(items=12))
    lists, report = result.lists(Decoding(beams, 16, "float32", filter_viewed=True), k=10)
    for items, history in zip(lists.items, result.requests().histories, strict=True):
        assert (items != NO_ITEM).sum() == min(10, 12 - len(set(history)))
        assert not np.isin(items, history).any()
    assert report.short == sum(len(set(history)) > 2 for history in result.requests().histories)

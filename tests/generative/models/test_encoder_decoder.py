"""T5 through the same search: against `generate`, against its own forward pass, and in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from harness.data.ragged import RaggedArray
from harness.generative.decoding.beam_search import Search, beam_search, rank_all
from harness.generative.decoding.generate import Beams, Decoding, Ranker, recommend
from harness.generative.exporting import PrefixTree, generate
from harness.generative.item_codes import CodeTable
from harness.generative.models.encoder_decoder import CodeT5, T5Reader, T5Shape
from harness.generative.models.readers import PromptBatch
from harness.generative.trie import CodeTrie
from harness.protocol.requests import Requests
from tests.generative import toy_models

SHAPE = T5Shape(layers=2, width=32, heads=3, head_width=16, inner=64)


def code_t5(codes: CodeTable, shape: T5Shape = SHAPE) -> CodeT5:
    """A random T5 whose relative positions and logits are large enough to tell one mistake from another."""
    torch.manual_seed(3)
    model = CodeT5(codes.sizes, shape, extra=5)
    with torch.no_grad():
        for stack in (model.t5.encoder, model.t5.decoder):
            stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.mul_(20)  # type: ignore[union-attr]
        model.t5.shared.weight.mul_(3)
    return model.eval()


def prompts(count: int = 6) -> list[list[int]]:
    rng = np.random.default_rng(4)
    return [rng.integers(2, 15, 2 + 3 * (row % 4)).tolist() for row in range(count)]


def test_the_backbone_of_tiger_has_its_shape() -> None:
    config = CodeT5((256,) * 4).t5.config
    assert (config.num_layers, config.num_decoder_layers, config.d_model) == (4, 4, 128)
    assert (config.num_heads, config.d_kv, config.d_ff) == (6, 64, 1024)


@pytest.mark.parametrize("beams", [5, 20])
def test_lists_and_scores_equal_generate(beams: int) -> None:
    codes = toy_models.table(40, (6, 5, 4))
    model = code_t5(codes)
    tree = PrefixTree(codes, model.vocabulary, model.eos)
    expected, scores = generate(model.t5, tree, prompts(), beams)
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    for side in sides:
        search = Search(model, CodeTrie(codes), T5Reader(model), "vocabulary")
        items, result = beam_search(search, PromptBatch.of(prompts(), "cpu", side), beams, beams)
        np.testing.assert_array_equal(items, expected, err_msg=side)
        np.testing.assert_allclose(result, scores, atol=1e-4)


def test_a_step_of_the_tree_is_the_state_of_its_path() -> None:
    codes = toy_models.table()
    model = code_t5(codes)
    batch = PromptBatch.of(prompts(2), "cpu")
    reader = T5Reader(model, room=6)
    with torch.inference_mode():
        for _ in range(2):  # again after a rewind
            begun = reader.prefill(batch)
            reader.reset()
            reader.extend(torch.tensor([[8, 9, 10]] * 2), torch.full((2, 3), -1))
            last = reader.extend(torch.tensor([[12, 13, 14]] * 2), torch.tensor([[2, 0, 0]] * 2))
            for place, path in enumerate([[10, 12], [8, 13], [8, 14]]):
                complete = model.states(batch.ids, batch.real, torch.tensor([[*path, 1]] * 2))
                torch.testing.assert_close(last[:, place], complete[:, -1], atol=1e-5, rtol=1e-4)
                torch.testing.assert_close(begun[:, 0], complete[:, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("beams", [10, "all"])
def test_lists_do_not_depend_on_the_batch(tmp_path: Path, beams: Beams) -> None:
    codes = toy_models.table()
    model, trie = code_t5(codes), CodeTrie(codes)
    rows = [[row % 30, *range(row % 5)] for row in range(20)]
    requests = Requests("test", np.arange(20), RaggedArray.of(rows))

    def prompt(history: np.ndarray) -> list[int]:
        return [2, *(codes.flat[history] + model.vocabulary).reshape(-1).tolist()]

    lists = [
        recommend(
            Ranker(model, trie, prompt), requests, 10, Decoding(beams, batch, "float32"), toy_models.context(tmp_path)
        )
        for batch in (1, 7, 64)
    ]
    for other, report in lists[1:]:
        np.testing.assert_array_equal(lists[0][0].items, other.items)
        assert report.reader == "T5Reader"


def test_scoring_all_items_gives_what_beams_for_all_give() -> None:
    codes = toy_models.table()
    model = code_t5(codes)
    search = Search(model, CodeTrie(codes), T5Reader(model), "vocabulary")
    batch = PromptBatch.of(prompts(), "cpu")
    np.testing.assert_array_equal(beam_search(search, batch, 30, 20)[0], rank_all(search, batch, 20)[0])

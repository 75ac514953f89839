"""The decoder over code tokens alone: one table, the states of packed windows, and the same search as other models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.ragged import RaggedArray
from harness.generative.decoding.beam_search import Search, beam_search, rank_all
from harness.generative.decoding.generate import Beams, Decoding, Ranker, recommend
from harness.generative.models.decoder_lm import START, CodeDecoder, DecoderShape
from harness.generative.models.packing import read_packed
from harness.generative.models.readers import PlainReader, PromptBatch, SharedReader
from harness.generative.tasks.prompts import CodePrompts
from harness.generative.trie import CodeTrie
from harness.protocol.requests import Requests
from tests.generative import toy_models

SHAPE = DecoderShape(layers=2, width=32, heads=2, head_width=8, inner=48, dropout=0.5)
CODES = toy_models.table(30, (6, 5, 4))
WINDOWS = [np.array([3, 5, 7, 9]), np.array([1]), np.array([20, 4, 6])]


def decoder() -> CodeDecoder:
    torch.manual_seed(3)
    return CodeDecoder(CODES.sizes, SHAPE).eval()


def prompts(model: CodeDecoder) -> CodePrompts:
    return CodePrompts(CODES.flat + model.vocabulary, (START,))


def test_one_table_embeds_and_predicts_and_logits_begin_with_unit_variance() -> None:
    model = decoder()
    assert model.code_in is model.code_out and model.text_head is model.embedding.weight
    names = [name for name, _ in model.named_parameters()]
    for tied in ({"code_in", "code_out"}, {"text_head", "embedding.weight", "body.embed_tokens.weight"}):
        assert len(tied & set(names)) == 1, "a tied parameter is trained and stored once"
    assert float(model.scale.detach()) == pytest.approx(SHAPE.width**-0.5)
    random = torch.nn.functional.normalize(torch.randn(200, SHAPE.width)) * SHAPE.width**0.5
    assert 0.8 < float(model.code_logits(random).std().detach()) < 1.2
    assert len(model.code_out) == sum(CODES.sizes) and len(model.text_head) == model.vocabulary == 2


def test_dropout_is_on_in_training_alone() -> None:
    model, ids = decoder(), torch.tensor([[0, 5, 9, 13]])
    assert torch.equal(model.states(ids), model.states(ids))
    model.train()
    assert not torch.equal(model.states(ids), model.states(ids))


def test_packed_windows_have_the_states_of_windows_alone() -> None:
    model = decoder()
    sequences = [prompts(model).codes[window].reshape(-1) for window in WINDOWS]
    read = read_packed(model, sequences, [START])
    for begin, window in zip(read.begins, WINDOWS, strict=True):
        alone = model.states(torch.tensor([prompts(model).history(window)]))[0, 1:]
        torch.testing.assert_close(read[begin + np.arange(len(alone))], alone, rtol=1e-4, atol=1e-5)


def test_the_shared_search_gives_the_lists_of_whole_sequences() -> None:
    model = decoder()
    batch = PromptBatch.of([prompts(model).history(window) for window in WINDOWS], "cpu")
    trie = CodeTrie(CODES)
    readers = (SharedReader(model, room=60), PlainReader(model))
    lists = [beam_search(Search(model, trie, reader, "children"), batch, 20, 10) for reader in readers]
    np.testing.assert_array_equal(lists[0][0], lists[1][0])
    np.testing.assert_allclose(lists[0][1], lists[1][1], atol=1e-4)
    exact = rank_all(Search(model, trie, readers[0], "children"), batch, 10)
    np.testing.assert_array_equal(beam_search(Search(model, trie, readers[0], "children"), batch, 30, 10)[0], exact[0])


@pytest.mark.parametrize("beams", [10, "all"])
def test_lists_do_not_depend_on_the_batch_and_a_history_may_be_empty(tmp_path: Path, beams: Beams) -> None:
    model, trie = decoder(), CodeTrie(CODES)
    requests = Requests("test", np.arange(12), RaggedArray.of([list(range(row % 5)) for row in range(12)]))
    lists = [
        recommend(
            Ranker(model, trie, prompts(model).history), requests, 10, Decoding(beams, batch, "float32", "children"),
            toy_models.context(tmp_path),
        )
        for batch in (1, 64)
    ]  # fmt: skip
    np.testing.assert_array_equal(lists[0][0].items, lists[1][0].items)
    assert lists[0][1].reader == "SharedReader" and (lists[0][0].lengths == 10).all()

"""What is no tuning stage goes on too: RQ-VAE, text vectors, lists; to the last digit, with only the rest to do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.core import timer
from harness.data.ragged import RaggedArray
from harness.generative.config import SemanticConfig
from harness.generative.decoding.generate import Decoding, Ranker, recommend
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers import text_encoder
from harness.generative.tokenizers.rqvae import RQVAEConfig, rqvae_codes
from harness.generative.training.checkpoint import PartialResults, state_digest
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from tests import toys
from tests.generative import toy_models
from tests.generative.decoding.test_generate import Asked, toy_case
from tests.generative.tokenizers.test_rqvae import vectors
from tests.generative.tokenizers.test_text_embeddings import TEXT, TITLES
from tests.generative.tokenizers.test_text_embeddings import vectors as text_vectors
from tests.stops import StopAfter


@pytest.fixture(autouse=True)
def keep_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "KEEP_SECONDS", 0.0)


@pytest.mark.parametrize("stop", [3, 9, 11])  # within the first epoch, within a later one, at the end of one
def test_an_rqvae_goes_on_within_a_pass(tmp_path: Path, stop: int) -> None:
    config = RQVAEConfig(hidden=(32,), latent=8, epochs=5, batch=64, learning_rate=3e-3)  # 5 batches a pass
    complete = rqvae_codes(vectors(), 3, 16, config, toys.context(tmp_path))
    stored = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        rqvae_codes(vectors(), 3, 16, config, toys.context(tmp_path, checkpoint=stored, reporter=StopAfter(stop)))
    rest = StopAfter()
    repeated = rqvae_codes(vectors(), 3, 16, config, toys.context(tmp_path, checkpoint=stored, reporter=rest))
    assert rest.calls == 1 + 25 - (stop - 1), "the step under way was lost, and no other"
    np.testing.assert_array_equal(complete.digits, repeated.digits)
    assert complete.loss == repeated.loss
    done = StopAfter()
    rqvae_codes(vectors(), 3, 16, config, toys.context(tmp_path, checkpoint=stored, reporter=done))
    assert done.calls == 1, "a complete one is not trained again"
    other = rqvae_codes(
        2 * vectors(), 3, 16, config, toys.context(tmp_path, checkpoint=stored, reporter=(new := StopAfter()))
    )
    assert new.calls == 25 and (other.digits != complete.digits).any(), "other vectors take up nothing"


def test_text_vectors_go_on_by_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder, "BATCH", 1)
    complete = text_vectors(TITLES, tmp_path / "whole")
    from harness.generative.tokenizers.embeddings import TextEmbeddings
    from tests.generative.tokenizers.test_text_embeddings import data

    with pytest.raises(KeyboardInterrupt):
        TextEmbeddings(TITLES).fit(data(), toys.context(tmp_path, reporter=StopAfter(3)))
    assert len(list((tmp_path / "cache/vectors/unfinished").rglob("*.safetensors"))) == 2
    rest = StopAfter()
    repeated = TextEmbeddings(TITLES).fit(data(), toys.context(tmp_path, reporter=rest)).values
    texts = len({text.title for text in TEXT})
    assert rest.calls == 1 + texts - 2
    np.testing.assert_array_equal(complete, repeated)
    assert not list((tmp_path / "cache/vectors/unfinished").iterdir())


def lists(predictions: Asked, folder: Path, how: Decoding, stop: int | None = None) -> tuple[Any, StopAfter]:
    reporter = StopAfter(stop)
    context = replace(toy_models.context(predictions.folder), checkpoint=folder, reporter=reporter)
    return recommend(
        Ranker(predictions.model, CodeTrie(predictions.codes), predictions.prompt),
        predictions.requests(),
        10,
        how,
        context,
    ), reporter


@pytest.mark.parametrize("batch", [4, 3, 40])
def test_lists_go_on_by_shards_with_any_batch(tmp_path: Path, batch: int) -> None:
    result = toy_case(tmp_path)
    how, stored = Decoding(10, 4, "float32", resume=True), tmp_path / "kept"
    (complete, messages), counted = lists(result, tmp_path / "whole", how)
    with pytest.raises(KeyboardInterrupt):
        lists(result, stored, how, stop=6)
    (repeated, report), rest = lists(result, stored, replace(how, batch=batch))
    assert rest.calls < counted.calls and report.users_scored == messages.users_scored == 40
    np.testing.assert_array_equal(complete.items, repeated.items)
    if batch == how.batch:
        np.testing.assert_array_equal(complete.scores, repeated.scores)
        assert vars(report) == vars(messages)
    np.testing.assert_allclose(complete.scores, repeated.scores, atol=1e-4)
    _, done = lists(result, stored, how)
    assert done.calls == 1, "complete lists are not searched again"


def test_a_mark_of_a_table_as_long_as_a_real_vocabulary() -> None:
    """Places in it are more than float32 counts: SmolLM2's 49,152 tokens of 576 numbers."""
    table = torch.nn.Module()
    table.register_buffer("rows", torch.zeros(49_152 * 576, dtype=torch.int8))
    previous = state_digest(table)
    assert state_digest(table) == previous
    table.get_buffer("rows")[-1] = 1
    assert state_digest(table) != previous


def test_lists_of_another_item_order_are_searched_anew(tmp_path: Path) -> None:
    """The same prompts and the same model, but other items behind the codes."""
    built, stored, how = toy_case(tmp_path), tmp_path / "kept", Decoding(10, 4, "float32", resume=True)
    requests, order = built.requests(), np.random.default_rng(2).permutation(built.codes.n_items)
    first = lists(built, stored, how)[0][0]
    codes = CodeTable(built.codes.digits[order], built.codes.sizes)  # item `n` has the code that item `order[n]` had
    context = replace(toy_models.context(tmp_path), checkpoint=stored)
    renamed = replace(
        requests, histories=RaggedArray(np.argsort(order)[requests.histories.values], requests.histories.offsets)
    )
    other = replace(built, codes=codes)
    result, _ = recommend(Ranker(built.model, CodeTrie(codes), other.prompt), renamed, 10, how, context)
    np.testing.assert_array_equal(order[result.items], first.items)


def test_lists_of_another_model_or_another_question_are_searched_anew(tmp_path: Path) -> None:
    result, stored, how = toy_case(tmp_path), tmp_path / "kept", Decoding(10, 4, "float32", resume=True)
    lists(result, stored, how)
    previous = state_digest(result.model)
    result.model.code_in.data[0, 0] += 1
    assert state_digest(result.model) != previous
    assert lists(result, stored, how)[1].calls > 1
    assert lists(result, stored, how)[1].calls == 1
    assert lists(result, stored, replace(how, beams=12))[1].calls > 1
    result.lead = (5, 6)
    assert lists(result, stored, how)[1].calls > 1


def test_a_piece_that_is_damaged_is_computed_again(tmp_path: Path) -> None:
    shards = PartialResults(tmp_path / "x")
    for row in range(3):
        shards.add(np.array([row]), np.array([row * 2.0]))
    pieces = sorted((tmp_path / "x").iterdir())
    pieces[1].write_bytes(pieces[1].read_bytes()[:-3])
    repeated = PartialResults(tmp_path / "x")
    result = repeated.done()
    assert result is not None and result[0].tolist() == [0, 2] and result[1][0].tolist() == [0.0, 4.0]
    repeated.add(np.array([1]), np.array([2.0]))
    assert len(list((tmp_path / "x").iterdir())) == 4, "no piece takes the name of another"
    shutil.rmtree(tmp_path / "x")
    assert PartialResults(tmp_path / "x").done() is None and PartialResults(None).done() is None


def test_nothing_is_kept_where_nobody_asks(tmp_path: Path) -> None:
    result, stored = toy_case(tmp_path), tmp_path / "kept"
    context: RunContext = replace(toy_models.context(tmp_path), checkpoint=stored)
    recommend(
        Ranker(result.model, CodeTrie(result.codes), result.prompt),
        result.requests(),
        10,
        Decoding(10, 4, "float32"),
        context,
    )
    assert not stored.exists() and SemanticConfig().vectors is None

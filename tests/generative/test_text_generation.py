"""Perplexity and greedy text, against transformers' own loss and `generate`."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from harness.generative import comprehension
from harness.generative.comprehension import continuations, perplexity
from harness.generative.models.decoder_lm import CodeLM
from tests.generative import toy_models

CODES = toy_models.table()
LIMIT = 12


def pair(folder: Path) -> tuple[CodeLM, LlamaForCausalLM]:
    """A code LM and transformers' own model around the same weights; the head is drawn, or all it said were echoes."""
    model = toy_models.code_lm(folder, CODES)
    model.text_head = torch.randn(model.text_head.shape, generator=torch.Generator().manual_seed(3))
    config = copy.deepcopy(model.body.config)
    config.tie_word_embeddings = False
    complete = LlamaForCausalLM(config)
    complete.model.load_state_dict(model.body.state_dict())
    complete.lm_head.weight.data.copy_(model.text_head)
    return model, complete.eval()


def test_perplexity_is_exp_of_the_mean_loss_over_all_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, complete = pair(tmp_path)
    monkeypatch.setattr(comprehension, "SPAN", 8)
    rows = [[5, 9, 7, 100, 33, 6, 7, 8, 9, 10, 11], [4, 44, 90], [3]]
    parts = [rows[0][:8], rows[0][8:], rows[1]]
    with torch.no_grad():
        losses = [complete(torch.tensor([part]), labels=torch.tensor([part])).loss * (len(part) - 1) for part in parts]
    expected = (sum(losses) / sum(len(part) - 1 for part in parts)).exp().item()
    assert perplexity(model, rows, "cpu", "float32") == pytest.approx(expected, rel=1e-5)
    assert perplexity(model, [[3]], "cpu", "float32") is None


def test_code_tokens_take_no_part_in_a_texts_likelihood(tmp_path: Path) -> None:
    model, _ = pair(tmp_path)
    previous = perplexity(model, [[5, 9, 7, 100]], "cpu", "float32")
    with torch.no_grad():
        model.code_out.mul_(100)
    assert perplexity(model, [[5, 9, 7, 100]], "cpu", "float32") == previous


def test_continuations_are_those_of_generate_and_end_at_the_end(tmp_path: Path) -> None:
    model, complete = pair(tmp_path)
    prompts = [[5, 9, 7], [100, 33], [8, 8, 8], [6, 7]]
    expected = [_generated(complete, prompt) for prompt in prompts]
    assert len(set(expected[0])) > 3
    model.eos = 256
    assert continuations(model, prompts, LIMIT, "cpu", "float32") == expected
    model.eos = expected[0][3]  # now the first answer must end there, and any other that comes to it
    cut = [row[: row.index(model.eos)] if model.eos in row else row for row in expected]
    assert continuations(model, prompts, LIMIT, "cpu", "float32") == cut != expected


def _generated(complete: LlamaForCausalLM, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    generated = complete.generate(ids, attention_mask=mask, max_new_tokens=LIMIT, do_sample=False, eos_token_id=None)
    return generated[0, len(prompt) :].tolist()  # type: ignore[union-attr]


def test_prompts_may_hold_code_tokens(tmp_path: Path) -> None:
    model, _ = pair(tmp_path)
    one, other = ([[5, model.vocabulary + code, 9]] for code in (0, 7))
    assert continuations(model, one, 8, "cpu", "float32") != continuations(model, other, 8, "cpu", "float32")

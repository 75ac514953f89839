"""The logits of any family are those of its own forward pass, or it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from harness.errors import InputError
from harness.generative.comprehension import continuations, perplexity
from harness.generative.models.backbone import byte_tokenizer, load_backbone
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.heads import final_norm_size
from harness.generative.models.packing import can_pack, read_packed, read_padded
from harness.generative.tasks.prompts import Prompts
from harness.generative.training.losses import Losses
from tests.generative import families, toy_models

TEXT = torch.tensor([[5, 9, 20, 33, 7, 41, 250, 1]])
CODES = toy_models.table(items=24)


def loaded(kind: str, folder: Path, **more: Any) -> tuple[CodeLM, Any]:
    """Ours and transformers' own, of one folder."""
    reference = families.saved(kind, folder / kind, **more)
    torch.manual_seed(1)
    actual = CodeLM(load_backbone(str(folder / kind), None, "pretrained", toy_models.context(folder)), CODES.sizes)
    return actual.eval(), reference


@pytest.mark.parametrize("kind", families.FAMILIES)
@torch.no_grad()
def test_logits_are_the_models_own(kind: str, tmp_path: Path) -> None:
    actual, reference = loaded(kind, tmp_path)
    expected = reference(input_ids=TEXT).logits
    torch.testing.assert_close(actual.text_logits(actual.states(TEXT)), expected, rtol=1e-4, atol=1e-4)
    states = actual.states(TEXT)
    torch.testing.assert_close(actual.eos_logits(states), expected[..., 0], rtol=1e-4, atol=1e-4)
    complete = actual.vocabulary_logits(states)
    torch.testing.assert_close(actual.vocabulary_logsumexp(states), complete.logsumexp(dim=-1), rtol=1e-5, atol=1e-4)
    message = torch.log_softmax(expected[0, :-1], dim=-1).gather(1, TEXT[0, 1:, None]).mean()
    assert perplexity(actual, TEXT.tolist(), "cpu", "float32") == pytest.approx(float((-message).exp()), rel=1e-3)
    assert continuations(actual, TEXT.tolist(), 1, "cpu", "float32")[0] == expected[:, -1].argmax(-1).tolist()


@pytest.mark.parametrize("kind", ["gemma2", "phi", "granite", "mamba", "bloom"])
def test_a_step_costs_what_all_logits_say(kind: str, tmp_path: Path) -> None:
    """Text among the vocabulary, codes and text together: value and gradients, through the normaliser."""
    actual, _ = loaded(kind, tmp_path)
    prompts = Prompts(load_backbone(str(tmp_path / kind), None, "pretrained", toy_models.context(tmp_path)), CODES)
    losses = Losses(actual, prompts, None, "cpu", "shared", "vocabulary")
    window = np.array([3, 5, 7])
    ids = prompts.history(window)
    logits = actual.vocabulary_logits(actual.states(torch.tensor([ids])))[0]
    first = len(prompts.lead()) + CODES.levels
    labels = [*prompts.codes[5].tolist(), actual.eos, *prompts.codes[7].tolist(), actual.eos]
    at = [*range(first - 1, first + CODES.levels), *range(first + CODES.levels - 1, first + 2 * CODES.levels)]
    expected = torch.nn.functional.cross_entropy(logits[at], torch.tensor(labels))
    result = losses.windows([window], 0, np.empty(0, np.int64)).value()
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    inputs = [actual.code_in, actual.code_out, actual.scale, *(p for p in actual.body.parameters() if p.requires_grad)]
    pairs = zip(*(torch.autograd.grad(loss, inputs, allow_unused=True) for loss in (result, expected)), strict=True)
    for one, other in pairs:
        if one is not None and other is not None:
            assert float((one - other).norm()) <= 1e-3 * float(other.norm()) + 1e-6


@pytest.mark.parametrize("kind", ["llama", "gemma2", "mistral", "mamba", "bloom"])
@torch.no_grad()
def test_packed_sequences_keep_apart_or_are_not_packed(kind: str, tmp_path: Path) -> None:
    window = {"sliding_window": 12} if kind in ("gemma2", "mistral") else {}
    actual, _ = loaded(kind, tmp_path, **window)
    assert can_pack(actual) == (kind not in ("mamba", "bloom"))
    sequences = [np.arange(1, 15), np.array([5, 6]), np.array([7, 8, 9])]  # the first is longer than the window
    read = read_packed(actual, sequences, [3, 4, 5])
    for number, sequence in enumerate(sequences):
        alone = read_padded(actual, [np.concatenate([[3, 4, 5], sequence])])
        places = np.arange(len(sequence))
        torch.testing.assert_close(read[read.begins[number] + places], alone[3 + places], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", families.REFUSED)
def test_a_head_of_another_kind_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"backbone '.*bert' is not supported: the computed logits differ"):
        loaded(kind, tmp_path)


def test_a_soft_cap_is_seen_in_a_model_of_small_logits(tmp_path: Path) -> None:
    """Freshly drawn logits are so small that no cap moves them; those of a trained model are not."""
    families.saved("gemma2", tmp_path / "gemma2", initializer_range=1e-4)
    fresh = load_backbone(str(tmp_path / "gemma2"), None, "random", toy_models.context(tmp_path))
    assert fresh.shape.cap == 3.0
    CodeLM(fresh, CODES.sizes)


def test_weights_of_norms_are_told_from_what_they_are_added_to() -> None:
    for kind, added in (("llama", False), ("gemma", True), ("gpt2", False), ("nemotron", True)):
        body = families.drawn(kind).base_model
        weight = cast(torch.Tensor, (body.ln_f if kind == "gpt2" else body.norm).weight)
        assert final_norm_size(body) == (weight + 1 if added else weight).pow(2).mean().sqrt().item()


def test_what_a_tokenizer_puts_before_a_text_stands_before_ours(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    bos = cast(int, tokenizer.bos_token_id)
    result = {}
    for name, value in (("none", byte_tokenizer()), ("bos", tokenizer)):
        if name == "bos":
            template = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
            value.backend_tokenizer.post_processor = template  # type: ignore[attr-defined]
        families.saved("llama", tmp_path / name, value)
        backbone = load_backbone(str(tmp_path / name), None, "pretrained", toy_models.context(tmp_path))
        prompts = Prompts(backbone, CODES)
        result[name] = (backbone.bos, prompts.history(np.array([1])), prompts.overhead("index2item", 1))
    (none, plain, room), (local, begun, other) = result["none"], result["bos"]
    assert none == () and local == (bos,) and begun == [bos, *plain] and other == room + 1

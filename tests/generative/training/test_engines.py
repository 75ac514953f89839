"""The shared engine against the plain one: the same loss and the same gradients, whatever is trained and however."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.generative.config import LossNormalise
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.tasks.prompts import IGNORED, Prompts, Sample
from harness.generative.training.losses import Losses, _common, together
from tests import toys
from tests.generative import toy_models
from tests.generative.training.test_losses import CODES, term

WINDOWS = [np.array([3, 5, 7, 9]), np.array([1, 2]), np.array([20, 4, 6, 8, 10, 12, 11]), np.array([0, 23])]
DRAWN = np.arange(0, 24, 2)
NORMALISE = pytest.mark.parametrize("normalise", ["level", "vocabulary"])


def losses(folder: Path, normalise: LossNormalise = "level", contrast: bool = True, kind: str = "llama") -> Losses:
    model = toy_models.code_lm(folder, CODES, kind)
    model.embedding.requires_grad_(False)
    prompts = Prompts(toy_models.backbone(folder, kind), CODES)
    return Losses(model, prompts, term() if contrast else None, "cpu", "shared", normalise)


def samples(prompts: Prompts) -> list[Sample]:
    """Every kind in one batch: code out, text out, and a response of words and codes that names no item."""
    text = toys.titles(24)
    codes = [prompts.item2index(item, text[item], item % 3) for item in (0, 7, 23)]
    words = [prompts.index2item(item, text[item], item % 3) for item in (4, 11)]
    both = [*prompts.codes[5].tolist(), 17, *prompts.codes[6].tolist(), 0]  # 0: the end of a sequence
    return [codes[0], words[0], Sample([8, 9, *both], [IGNORED, IGNORED, *both]), *codes[1:], words[1]]


def assert_equal(one: torch.Tensor, other: torch.Tensor, computed: Losses) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    modules = [computed.model] + ([computed.term] if computed.term else [])
    inputs = [p for module in modules for p in module.parameters() if p.requires_grad]
    result, target = (torch.autograd.grad(loss, inputs, allow_unused=True) for loss in (one, other))
    assert sum(grad is not None for grad in result) > 10
    for grad, expected in zip(result, target, strict=True):
        assert (grad is None) == (expected is None)
        if grad is not None and expected is not None:
            assert float((grad - expected).norm()) <= 1e-4 * float(expected.norm()) + 1e-9


@NORMALISE
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_windows(tmp_path: Path, normalise: LossNormalise, kind: str) -> None:
    computed = losses(tmp_path, normalise, kind=kind)
    plain = replace(computed, engine="plain")
    assert_equal(computed.windows(WINDOWS, 1, DRAWN).value(), plain.windows(WINDOWS, 1, DRAWN).value(), computed)


@NORMALISE
def test_any_mix_of_samples(tmp_path: Path, normalise: LossNormalise) -> None:
    computed = losses(tmp_path, normalise)
    value = samples(computed.prompts)
    assert_equal(
        computed.rows(value, DRAWN).value(), replace(computed, engine="plain").rows(value, DRAWN).value(), computed
    )


@NORMALISE
def test_samples_that_begin_alike_share_their_beginning(tmp_path: Path, normalise: LossNormalise) -> None:
    computed = losses(tmp_path, normalise)
    text = toys.titles(24)
    value = [computed.prompts.item2index(item, text[item], 0) for item in (0, 7, 23)]
    value.append(Sample([*value[0].ids[:9], 3], [IGNORED] * 9 + [3]))  # its response follows what all share
    assert 4 < len(_common(value)) < 9 and not _common(value[:1])
    assert_equal(
        computed.rows(value, DRAWN).value(), replace(computed, engine="plain").rows(value, DRAWN).value(), computed
    )


@NORMALISE
def test_the_loss_is_that_of_all_logits(tmp_path: Path, normalise: LossNormalise) -> None:
    """Token by token from the logits of one sample at a time, without any of the code that packs or normalises."""
    computed = losses(tmp_path, normalise, contrast=False)
    model, parts = computed.model, []
    for sample in samples(computed.prompts):
        ends_with_code = sample.item is not None and normalise == "vocabulary"
        logits = model.vocabulary_logits(model.states(torch.tensor([sample.ids]))[0])
        labels = [*sample.labels[1:], model.eos if ends_with_code else IGNORED]
        for row, label in zip(logits, labels, strict=True):
            if label == IGNORED:
                continue
            if normalise == "level":
                bounds = np.concatenate([[0], model.vocabulary + np.array(model.offsets)])
                kind = int(np.searchsorted(bounds, label, side="right")) - 1
                row = row[bounds[kind] : bounds[kind + 1]]
                label -= bounds[kind]
            parts.append(-torch.log_softmax(row, dim=-1)[int(label)])
    expected = torch.stack(parts).mean()
    torch.testing.assert_close(computed.rows(samples(computed.prompts), DRAWN).value(), expected, rtol=1e-5, atol=1e-6)


def test_end_of_sequence_is_said_once_whoever_puts_it_there(tmp_path: Path) -> None:
    computed = losses(tmp_path, "vocabulary")
    bare = computed.prompts.item2index(3, toys.titles(24)[3], 0)
    ended = Sample([*bare.ids, computed.model.eos], [*bare.labels, computed.model.eos], bare.item)
    torch.testing.assert_close(
        computed.rows([bare], DRAWN).value(), computed.rows([ended], DRAWN).value(), rtol=1e-6, atol=1e-6
    )


def test_low_rank_adapters(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    computed = losses(tmp_path)
    torch.manual_seed(5)
    lora = LoraConfig(r=4, lora_dropout=0.0, target_modules="all-linear", init_lora_weights=False)
    computed.model.body = get_peft_model(computed.model.body, lora)  # type: ignore[arg-type]
    trained = [name for name, p in computed.model.body.named_parameters() if p.requires_grad]
    assert trained and all("lora" in name for name in trained)
    plain = replace(computed, engine="plain")
    assert_equal(computed.windows(WINDOWS, 0, DRAWN).value(), plain.windows(WINDOWS, 0, DRAWN).value(), computed)


@NORMALISE
def test_parts_of_a_step_add_up(tmp_path: Path, normalise: LossNormalise) -> None:
    """Gradient accumulation: parts of unequal numbers of targets, and of responses in the contrastive term, one of
    which has none of these."""
    computed = losses(tmp_path, normalise)
    halves = [[np.array([3, 5])], [np.array([9, 8, 4, 6, 2, 1, 10, 11]), np.array([7, 12])]]
    costs = [computed.windows(half, 0, DRAWN) for half in halves]
    parts = torch.stack([cost.share(together(costs)) for cost in costs]).sum()
    assert_equal(parts, computed.windows(halves[0] + halves[1], 0, DRAWN).value(), computed)
    value = samples(computed.prompts)
    words = [sample for sample in value if sample.item is None]
    codes = [sample for sample in value if sample.item is not None]
    costs = [computed.rows(part, DRAWN) for part in (words, codes[:1], codes[1:])]
    parts = torch.stack([cost.share(together(costs)) for cost in costs]).sum()
    assert_equal(parts, computed.rows([*words, *codes], DRAWN).value(), computed)


def test_bfloat16_is_near(tmp_path: Path) -> None:
    computed = losses(tmp_path)
    exact = computed.windows(WINDOWS, 0, DRAWN).value()
    with torch.autocast("cpu", torch.bfloat16):
        shared = computed.windows(WINDOWS, 0, DRAWN).value()
        plain = replace(computed, engine="plain").windows(WINDOWS, 0, DRAWN).value()
    torch.testing.assert_close(shared, exact, rtol=0.02, atol=0.02)
    torch.testing.assert_close(shared, plain, rtol=0.02, atol=0.02)


def test_a_target_never_sees_what_comes_after_it(tmp_path: Path) -> None:
    """A planted later item moves no loss before it, and no neighbour's."""
    computed: Losses = losses(tmp_path, contrast=False)
    model: CodeLM = computed.model

    def first_states(last: int) -> torch.Tensor:
        read, targets = computed.read_windows([np.array([3, 5, last]), np.array([1, 2])], 0)
        levels = len(model.sizes)
        return read[np.concatenate([targets.places[:levels], targets.places[-levels:]])]

    torch.testing.assert_close(first_states(7), first_states(22), rtol=0, atol=1e-6)

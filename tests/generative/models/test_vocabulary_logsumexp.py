"""The exact normaliser of the whole vocabulary: value and gradients equal those through all logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.generative.models import heads
from tests.generative import toy_models


@pytest.mark.parametrize(("chunk", "trained"), [(4, False), (256, False), (4, True)])
def test_equals_the_sum_over_all_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, trained: bool
) -> None:
    monkeypatch.setattr(heads, "CHUNK", chunk)
    model = toy_models.code_lm(tmp_path, toy_models.table())
    model.text_head = model.text_head.requires_grad_(trained)
    states = torch.randn(3, 5, 48, requires_grad=True)
    weights = torch.rand(3, 5)
    inputs = [states, model.code_out, model.scale] + [model.text_head] * trained
    exact = model.vocabulary_logits(states).logsumexp(dim=-1)
    expected = torch.autograd.grad((exact * weights).sum(), inputs)
    value = model.vocabulary_logsumexp(states)
    torch.testing.assert_close(value, exact)
    for result, target in zip(torch.autograd.grad((value * weights).sum(), inputs), expected, strict=True):
        torch.testing.assert_close(result, target, rtol=1e-4, atol=1e-6)


def test_follows_autocast_and_large_logits(tmp_path: Path) -> None:
    model = toy_models.code_lm(tmp_path, toy_models.table())
    states = 300 * torch.randn(7, 48)
    assert torch.isfinite(model.vocabulary_logsumexp(states)).all()
    with torch.autocast("cpu", torch.bfloat16):
        value = model.vocabulary_logsumexp(states / 300)
        expected = model.vocabulary_logits(states / 300).logsumexp(dim=-1)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-2, atol=1e-2)


def test_the_parts_of_the_vocabulary_are_where_generate_has_them(tmp_path: Path) -> None:
    model = toy_models.code_lm(tmp_path, toy_models.table())
    states = torch.randn(4, 48)
    every = model.vocabulary_logits(states)
    assert every.shape == (4, model.vocabulary + sum(model.sizes))
    torch.testing.assert_close(every[:, model.eos], model.eos_logits(states))
    start = model.vocabulary + model.offsets[1]
    torch.testing.assert_close(every[:, start : start + model.sizes[1]], model.level_logits(states, 1))


def test_no_state_is_no_sum(tmp_path: Path) -> None:
    model = toy_models.code_lm(tmp_path, toy_models.table())
    assert model.vocabulary_logsumexp(torch.empty(0, 48)).shape == (0,)

"""Dropout on residual branches, and its cheap mask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.precision import add_residual_dropout, dropout
from tests.generative import toy_models


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_mask_has_the_right_share_and_keeps_the_mean(probability: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(1001, 333)
    dropped = dropout(values, probability)
    assert float((dropped == 0).float().mean()) == pytest.approx(probability, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert dropped.unique().numel() == 2
    torch.manual_seed(0)
    assert torch.equal(dropped, dropout(values, probability)), "the seed decides"


def test_gradients_pass_where_the_mask_lets_values_through() -> None:
    values = torch.ones(50, 3, requires_grad=True)
    dropped = dropout(values, 0.3)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


def test_nothing_is_dropped_outside_training() -> None:
    values = torch.randn(5)
    assert dropout(values, 0.5, training=False) is values and dropout(values, 0.0) is values


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "mistral"])
def test_every_branch_of_every_family_is_dropped_in_training_alone(kind: str, tmp_path: Path) -> None:
    table = toy_models.table()
    plain = CodeLM(toy_models.backbone(tmp_path, kind), table.sizes)
    ids = torch.tensor([[1, 2, 3, 4]])
    expected = plain.eval().states(ids)
    assert add_residual_dropout(plain.body, 0.5) == 4, "two layers of attention and MLP"
    assert torch.equal(plain.eval().states(ids), expected)
    one, two = plain.train().states(ids), plain.states(ids)
    assert not torch.equal(one, two)


def test_a_body_without_branches_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear"):
        add_residual_dropout(nn.Linear(2, 2), 0.5)

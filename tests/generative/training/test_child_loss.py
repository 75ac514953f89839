"""Cross-entropy among a prefix's children against a softmax over the whole trie, done by brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from harness.generative.item_codes import CodeTable
from harness.generative.models.heads import SampledRows, products
from harness.generative.tasks.prompts import Prompts
from harness.generative.training.losses import Losses, child_cross_entropy
from harness.generative.trie import CodeTrie
from tests.generative import toy_models

SIZES, WIDTH = (4, 5, 3), 6


def head(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, WIDTH, generator=generator, dtype=torch.float64) for size in SIZES]


def brute_force(table: CodeTable, rows: list[torch.Tensor], states: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """-log p of each level's token, (n, levels): a dense softmax in which what leads to no code is masked."""
    digits, costs = torch.tensor(table.digits), []
    for level in range(table.levels):
        logits = states[:, level] @ rows[level].T
        same = (digits[items][:, None, :level] == digits[None, :, :level]).all(-1)
        allowed = torch.zeros(logits.shape, dtype=torch.bool)
        for row, siblings in enumerate(same):
            allowed[row, digits[siblings, level]] = True
        masked = logits.masked_fill(~allowed, float("-inf"))
        costs.append(functional.cross_entropy(masked, digits[items, level], reduction="none"))
    return torch.stack(costs, dim=1)


def by_trie(table: CodeTable, rows: list[torch.Tensor], states: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    trie, digits = CodeTrie(table), torch.tensor(table.digits)

    def logits(some: torch.Tensor, level: int, sampled: SampledRows | None = None) -> torch.Tensor:
        return products(some, rows[level], sampled)

    parts = [
        child_cross_entropy(trie, logits, states[:, level], level, trie.prefixes[items, level], digits[items, level])
        for level in range(table.levels)
    ]
    return torch.stack(parts, dim=1)


@pytest.mark.parametrize("count", [1, 2, 17, 60])
def test_values_and_gradients_are_those_of_the_masked_softmax(count: int) -> None:
    table = toy_models.table(count, SIZES)
    items = torch.arange(count).repeat(3)
    states = torch.randn(len(items), table.levels, WIDTH, dtype=torch.float64, requires_grad=True)
    rows = [part.requires_grad_(True) for part in head()]
    inputs = [states, *rows]
    measured, expected = by_trie(table, rows, states, items), brute_force(table, rows, states, items)
    torch.testing.assert_close(measured, expected, check_dtype=False, rtol=1e-5, atol=1e-6)
    actual = torch.autograd.grad(measured.sum(), inputs, allow_unused=True)
    reference = torch.autograd.grad(expected.sum(), inputs)
    for remaining, right in zip(actual, reference, strict=True):
        torch.testing.assert_close(
            torch.zeros_like(right) if remaining is None else remaining, right, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_level_is_computed_for_children_alone(dtype: torch.dtype) -> None:
    """A token an item: the logits and gradients of the children are those of all tokens."""
    rng = np.random.default_rng(5)
    table = CodeTable(np.column_stack([rng.integers(0, 20, 200), rng.permutation(200)]), (20, 200))
    items = torch.arange(200).repeat(2)
    states = torch.randn(400, 2, WIDTH, dtype=dtype, requires_grad=True)
    rows = [torch.randn(size, WIDTH, dtype=dtype, requires_grad=True) for size in table.sizes]
    read: list[int] = []

    def logits(some: torch.Tensor, level: int, sampled: SampledRows | None = None) -> torch.Tensor:
        read.append(0 if sampled is None else len(sampled.rows))
        return products(some, rows[level], sampled)

    trie, digits = CodeTrie(table), torch.tensor(table.digits)
    costs = [
        child_cross_entropy(trie, logits, states[:, level], level, trie.prefixes[items, level], digits[items, level])
        for level in range(2)
    ]
    expected = brute_force(table, rows, states, items)
    assert read[0] == 0 and 400 <= read[1] < 400 * 200 * 0.2
    torch.testing.assert_close(torch.stack(costs, dim=1), expected, check_dtype=False, rtol=1e-5, atol=1e-5)
    weights = torch.randn(400, 2)
    actual = torch.autograd.grad((torch.stack(costs, dim=1) * weights).sum(), [states, *rows])
    reference = torch.autograd.grad((expected * weights).sum(), [states, *rows])
    for value, target in zip(actual, reference, strict=True):
        torch.testing.assert_close(value, target, rtol=1e-4, atol=1e-4)


def test_probabilities_of_all_items_sum_to_one() -> None:
    table = toy_models.table(30, SIZES)
    trie_rows = head()
    # One state a prefix: a token's distribution depends on the prefix alone, as in a model that has read it.
    trie = CodeTrie(table)
    states = [torch.randn(len(digit), WIDTH, dtype=torch.float64) for digit in trie.digit[:-1]]
    items = torch.arange(30)
    read = torch.stack([states[level][trie.prefixes[items, level]] for level in range(table.levels)], dim=1)
    assert float(by_trie(table, trie_rows, read, items).sum(dim=1).neg().exp().sum()) == pytest.approx(1, abs=1e-5)


def test_a_prefix_with_one_child_costs_nothing_and_moves_nothing() -> None:
    table = CodeTable(np.array([[0, 0], [1, 1], [1, 2]]), (2, 3))
    states = torch.randn(3, 2, WIDTH, requires_grad=True)
    rows = [torch.randn(size, WIDTH) for size in table.sizes]
    costs = by_trie(table, rows, states, torch.arange(3))
    assert costs[0, 1] == 0 and (costs[1:, 1] > 0).all()
    (gradient,) = torch.autograd.grad(costs[0, 1], states)
    assert (gradient == 0).all()


def test_losses_of_windows_and_of_single_samples_agree(tmp_path: Path) -> None:
    table = toy_models.table(30, SIZES)
    model = toy_models.code_lm(tmp_path, table)
    prompts = Prompts(toy_models.backbone(tmp_path), table)
    losses = Losses(model, prompts, None, "cpu", normalise="children", trie=CodeTrie(table))
    windows = [np.array([3, 7, 1, 29]), np.array([5, 2])]
    together = losses.windows(windows, 0, np.empty(0)).value()
    alone = losses.rows(list(losses.alone(windows, prompts.lead())), np.empty(0)).value()
    assert float(together.detach()) == pytest.approx(float(alone.detach()), rel=1e-5)
    level = Losses(model, prompts, None, "cpu").windows(windows, 0, np.empty(0)).value()
    assert float(together.detach()) < float(level.detach())

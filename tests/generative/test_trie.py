"""The trie against a dictionary of prefixes, on irregular trees, and with a million items."""

from __future__ import annotations

import time
import tracemalloc
from functools import cache
from statistics import median

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.generative.config import ScoreNormalization
from harness.generative.decoding import beam_search as beam
from harness.generative.decoding.beam_search import Search, beam_search
from harness.generative.item_codes import CodeTable
from harness.generative.models.readers import PromptBatch
from harness.generative.trie import CodeTrie

MILLION = 1_000_000


@cache
def spread(items: int, size: int = 256, levels: int = 4) -> CodeTable:
    """Distinct random codes, as trees over so many items give them."""
    numbers = np.random.default_rng(0).permutation(np.int64(2) ** 32 // 4000)[:items] * 3999 + 17
    digits = np.stack([numbers // size ** (levels - 1 - level) % size for level in range(levels)], axis=1)
    return CodeTable(digits, (size,) * levels)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=40))
def test_children_are_those_of_a_dictionary(rows: list[tuple[int, int, int]]) -> None:
    trie = CodeTrie(CodeTable(np.array(rows), (4, 3, 5)))
    nodes, prefixes = torch.zeros(1, 1, dtype=torch.int64), [()]
    for level in range(3):
        result = trie.children(level, nodes)
        digits = trie.digit[level + 1][result.node][0, : int(result.real.sum())].tolist()
        owners = result.beam[0, : len(digits)].tolist()
        reached = [(*prefixes[owner], digit) for owner, digit in zip(owners, digits, strict=True)]
        assert reached == sorted({row[: level + 1] for row in rows})
        nodes, prefixes = result.node[result.real][None], reached
    assert sorted(item for leaf in range(trie.codes) for item in trie.items_of(leaf)) == list(range(len(rows)))


def test_users_with_different_fans_stand_side_by_side() -> None:
    trie = CodeTrie(CodeTable(np.array([[0, 0], [0, 1], [0, 2], [1, 1], [2, 0], [2, 2]]), (3, 3)))
    result = trie.children(1, torch.tensor([[2, 1], [0, 0], [1, 1]]))
    rows = [trie.digit[2][node[real]].tolist() for node, real in zip(result.node, result.real, strict=True)]
    assert rows == [[0, 2, 1], [0, 1, 2, 0, 1, 2], [1, 1]]
    assert [beam[real].tolist() for beam, real in zip(result.beam, result.real, strict=True)] == [
        [0, 0, 1],
        [0, 0, 0, 1, 1, 1],
        [0, 1],
    ]


@pytest.mark.parametrize("leaves", [range(0, 6), range(1, 4), range(5, 6), range(2, 5)])
def test_spans_hold_the_ancestors_of_their_leaves(leaves: range) -> None:
    rows = np.array([[0, 0], [0, 1], [0, 2], [1, 1], [2, 0], [2, 2]])
    spans = CodeTrie(CodeTable(rows, (3, 3))).spans(leaves)
    assert spans[0] == range(1) and spans[2] == leaves
    assert list(spans[1]) == sorted({rows[leaf, 0] for leaf in leaves})


class Fixed:
    """A model of fixed random logits, and its own reader: what is left is the search."""

    def __init__(self, sizes: tuple[int, ...], width: int = 16) -> None:
        torch.manual_seed(0)
        self.vocabulary, self.eos, self.sizes = 10, 0, sizes
        self.offsets = [sum(sizes[:level]) for level in range(len(sizes) + 1)]
        self.rows, self.width = torch.randn(sum(sizes), width), width

    def level_logits(self, states: torch.Tensor, level: int) -> torch.Tensor:
        return states @ self.rows[self.offsets[level] : self.offsets[level + 1]].T

    def eos_logits(self, states: torch.Tensor) -> torch.Tensor:
        return states.sum(dim=-1)

    def vocabulary_logsumexp(self, states: torch.Tensor) -> torch.Tensor:
        return (states @ self.rows.T).logsumexp(dim=-1)

    def prefill(self, prompts: PromptBatch) -> torch.Tensor:
        return self.rows[prompts.ids[:, -1:] % len(self.rows)]

    def extend(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        return self.rows[tokens - self.vocabulary]

    def reset(self) -> None:
        pass


def searched(
    table: CodeTable, users: int = 8, normalise: ScoreNormalization = "level"
) -> tuple[np.ndarray, np.ndarray]:
    model = Fixed(table.sizes)
    requested = PromptBatch.of([[user] for user in range(users)], "cpu")
    return beam_search(Search(model, CodeTrie(table), model, normalise), requested, 20, 20)


def test_one_node_with_most_of_the_items_keeps_memory_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """60,000 children of one node beside narrow ones: padding each beam to the widest would take gigabytes."""
    wide = np.stack([np.zeros(60_000, np.int64), np.arange(60_000)], axis=1)
    narrow = np.stack([np.arange(1, 200), np.arange(1, 200)], axis=1)
    table = CodeTable(np.concatenate([wide, narrow]), (200, 60_000))
    complete = searched(table, users=4)
    monkeypatch.setattr(beam, "ENTRIES", 1 << 17)
    sizes: list[int] = []
    children = CodeTrie.children

    def seen(self: CodeTrie, depth: int, nodes: torch.Tensor) -> object:
        result = children(self, depth, nodes)
        sizes.append(result.node.numel())
        return result

    monkeypatch.setattr(CodeTrie, "children", seen)
    pieces = searched(table, users=4)
    np.testing.assert_array_equal(complete[0], pieces[0])
    assert max(sizes) <= 1 << 17 and len(sizes) > 2


@pytest.mark.nightly
def test_a_million_items_are_a_trie_in_seconds() -> None:
    table = spread(MILLION)
    assert len(np.unique(table.digits, axis=0)) == MILLION
    tracemalloc.start()
    begun = time.process_time()
    trie = CodeTrie(table)
    seconds, (_, peak) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert trie.codes == MILLION
    assert seconds < 20 and peak < 2**30
    lists, _ = searched(table, users=2)
    assert (lists >= 0).all()


@pytest.mark.nightly
def test_a_million_items_are_searched_as_fast_as_ten_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is the model and the search. Beside 8 users' 20 beams through one of the 30 blocks of SmolLM2-135M and
    its head over the vocabulary, what a hundred times more items add to the search is small."""
    block = [torch.randn(out, inner) for out, inner in ((960, 576), (576, 576), (3072, 576), (576, 1536))]
    head = torch.randn(49152, 576)
    grow = Fixed.extend

    def slowly(self: Fixed, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        for rows in (*block, head):
            torch.nn.functional.linear(torch.ones(tokens.numel(), rows.shape[1]), rows)
        return grow(self, tokens, parents)

    monkeypatch.setattr(Fixed, "extend", slowly)
    tries = []
    for items in (10_000, MILLION):
        model = Fixed((256,) * 4)
        search = Search(model, CodeTrie(spread(items)), model)
        tries.append((search, PromptBatch.of([[user] for user in range(8)], "cpu")))
    ratios = []
    for turn in range(6):
        took = []
        for search, requested in tries:
            begun = time.process_time()
            beam_search(search, requested, 20, 20)
            took.append(time.process_time() - begun)
        if turn:
            ratios.append(took[1] / took[0])
    assert median(ratios) <= 1.5

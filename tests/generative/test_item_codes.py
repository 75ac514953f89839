"""Code tables, index files and the trie, against brute force."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError
from harness.generative.item_codes import CodeTable
from harness.generative.trie import CodeTrie
from tests.generative import toy_models


def test_index_file_round_trip(tmp_path: Path) -> None:
    codes, items = toy_models.table(), [f"item {i}" for i in range(30)]
    codes.write(tmp_path / "x.index.json", items)
    written = json.loads((tmp_path / "x.index.json").read_text())
    assert written["item 0"][0].startswith("<a_") and written["item 0"][2].startswith("<c_")
    np.testing.assert_array_equal(CodeTable.read(tmp_path / "x.index.json", items).digits, codes.digits)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ('{"a": ["<a_1>"]}', r"1 items have no code \(b\)"),
        ('{"a": ["<a_1>"], "b": ["<a_2>"], "c": ["<a_3>"]}', r"1 unknown items have a code \(c\)"),
        ('{"a": ["<a_1>"], "b": ["<a_2>"], "a": ["<a_3>"]}', "'a' is repeated"),
        ('{"a": ["<a_1>"], "b": "a 2"}', "'b' is not a list"),
        ('{"a": [], "b": []}', "'a' is not a list"),
        ('{"a": ["<a_1>"], "b": ["<a_99999999999999999999>"]}', "'b'"),
        ('{"a": ["<a_1>"], "b": ["<a_1>", "<b_2>"]}', "unequal length: item 'a' has 1 tokens, 'b' has 2"),
        ('{"a": ["<a_1>"], "b": ["<b_2>"]}', "'b'"),
        ('{"a": ["<a_1>"], "b": ["<a_x>"]}', "<a_x>"),
    ],
)
def test_index_files_that_are_wrong(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=message):
        CodeTable.read(tmp_path / "x.json", ["a", "b"])


def test_a_few_other_tokens_among_numbers_are_the_wrong_ones(tmp_path: Path) -> None:
    for wrong in ("-6", '"<b_2>"', "null"):
        (tmp_path / "x.json").write_text(f'{{"a": [1, 2], "b": [1, {wrong}], "c": [2, 3]}}')
        with pytest.raises(InputError, match=r"item 'b': token .* on level 2"):
            CodeTable.read(tmp_path / "x.json", ["a", "b", "c"])


def test_token_names_follow_the_flat_numbers() -> None:
    codes = CodeTable(np.array([[1, 0], [0, 2]]), (2, 3))
    assert codes.tokens == ("<a_0>", "<a_1>", "<b_0>", "<b_1>", "<b_2>")
    assert [[codes.tokens[n] for n in row] for row in codes.flat] == [["<a_1>", "<b_0>"], ["<a_0>", "<b_2>"]]


def test_a_digit_outside_its_level_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        CodeTable(np.array([[2, 0]]), (2, 3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=40))
def test_trie_leads_to_all_codes_and_no_other(rows: list[tuple[int, int, int]]) -> None:
    codes = CodeTable(np.array(rows), (4, 4, 4))
    trie = CodeTrie(codes)
    result: dict[tuple[int, ...], list[int]] = {}

    def walk(depth: int, node: int, prefix: tuple[int, ...]) -> None:
        if depth == trie.levels:
            result[prefix] = trie.items_of(node).tolist()
            return
        for child in trie.children(depth, torch.tensor([[node]])).node[0].tolist():
            walk(depth + 1, child, (*prefix, int(trie.digit[depth + 1][child])))

    walk(0, 0, ())
    expected = {row: [item for item, other in enumerate(rows) if other == row] for row in rows}
    assert {row: sorted(items) for row, items in result.items()} == expected
    assert trie.codes == len(expected)
    assert codes.collisions().tolist() == [i for i, row in enumerate(rows) if rows.count(row) > 1]

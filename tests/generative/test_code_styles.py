"""Code tokens in the styles of other projects are the same numbers; what is none is refused with its item."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InputError
from harness.generative.item_codes import CodeTable, read_codes

DIGITS = np.array([[0, 3, 1], [2, 0, 0], [2, 3, 5], [1, 1, 1]])
LETTERS = "abc"
STYLES: dict[str, Callable[[int, int], object]] = {
    "ours": lambda level, digit: f"<{LETTERS[level]}_{digit}>",
    "bars": lambda level, digit: f"<|{LETTERS[level]}_{digit}|>",
    "item": lambda level, digit: f"<item_{LETTERS[level]}_{digit}>",
    "capitals": lambda level, digit: f"<{LETTERS[level].upper()}_{digit}>",
    "squares": lambda level, digit: f"[{LETTERS[level]}_{digit}]",
    "bare": lambda level, digit: f"{LETTERS[level]}{digit}",
    "level from 0": lambda level, digit: f"<|sid_{level}_{digit}|>",
    "level from 1": lambda level, digit: f"<s{level + 1}_{digit}>",
    "doubled": lambda level, digit: f"<<{LETTERS[level]}_{digit}>>",
    "curly": lambda level, digit: f"{{{LETTERS[level]}_{digit}}}",
    "round": lambda level, digit: f"({LETTERS[level]}_{digit})",
    "colon": lambda level, digit: f"<{LETTERS[level]}:{digit}>",
    "full stop": lambda level, digit: f"<{LETTERS[level]}.{digit}>",
    "floats": lambda _, digit: float(digit),
    "numbers": lambda _, digit: digit,
    "numbers as text": lambda _, digit: str(digit),
    "counted on": lambda level, digit: digit + 256 * level,
}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_the_same_codes(style: str, tmp_path: Path) -> None:
    codes = [[STYLES[style](level, int(digit)) for level, digit in enumerate(row)] for row in DIGITS]
    (tmp_path / "x.json").write_text(json.dumps({f"i{n}": code for n, code in enumerate(codes)}))
    read = CodeTable.read(tmp_path / "x.json", [f"i{n}" for n in range(len(DIGITS))])
    assert read.digits.tolist() == DIGITS.tolist()


def test_levels_behind_the_alphabet_have_two_letters(tmp_path: Path) -> None:
    """Codes as long as RPG's, written and read."""
    table = CodeTable(np.arange(3 * 64).reshape(3, 64) % 7, (7,) * 64)
    assert table.tokens[26 * 7] == "<aa_0>" and table.tokens[-1] == "<bl_6>" and len(set(table.tokens)) == 64 * 7
    table.write(tmp_path / "x.json", ("x", "y", "z"))
    np.testing.assert_array_equal(CodeTable.read(tmp_path / "x.json", ("x", "y", "z")).digits, table.digits)
    with pytest.raises(InputError, match="token '<aa_1>' on level 2"):
        read_codes([["<a_1>", "<aa_1>"]], ["x"], "f")
    with pytest.raises(InputError, match="1 to 128 of them"):
        read_codes([["<a_1>"] * 129], ["x"], "f")


@pytest.mark.parametrize(
    "codes",
    [
        ["<a_1><b_2>", "<a_7> <b_0>"],
        ["[a_1][b_2]", "[a_7][b_0]"],
        ["a_1 b_2", "a_7, b_0"],
        ["1-2", "7-0"],
        ["1,2", "7 0"],
        ["(1, 2)", "[7, 0]"],
        [["<|sid_begin|>", "<a_1>", "<b_2>", "<|sid_end|>"], ["<|sid_begin|>", "<a_7>", "<b_0>", "<|sid_end|>"]],
    ],
)
def test_one_text_of_tokens_is_a_code(codes: list[object]) -> None:
    assert read_codes(codes, ["x", "y"], "f").tolist() == [[1, 2], [7, 0]]


@pytest.mark.parametrize(
    "code",
    [["<b_1>"], ["<a_1"], ["<a_-1>"], ["<a_1.5>"], [True], [-1], [1.5], [None], [["a"]], ["a b"], "a_1", 5, [], {}],
)
def test_what_is_no_code_names_its_item(code: object) -> None:
    with pytest.raises(InputError, match=r"item 'pen'"):
        read_codes([code], ["pen"], "f.json")


def test_levels_in_another_order_are_refused() -> None:
    with pytest.raises(InputError, match=r"token '<\|sid_1_4\|>' on level 1"):
        read_codes([["<|sid_0_4|>", "<|sid_1_4|>"], ["<|sid_1_4|>", "<|sid_0_4|>"]], ["x", "y"], "f")

"""`CodeTable`: codes of items, one token a level; LC-Rec-style index files; statistics of an index.

A code token has a number on its level and a flat number over all levels, and is named `<a_0>`, `<a_1>`, …, `<b_0>`, ….
Index files are read in the styles in use (`<a_12>`, `<|a_12|>`, `<sid_0_12>`, integers). `inspect` describes the
quality of an index: collisions, usage and entropy of each level, branching of prefixes. The run's record, `harness
index build` and `harness index inspect` show the same description.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.files import write_text
from harness.core.hashing import fingerprint
from harness.core.json_files import read_json_object
from harness.errors import InputError, truncate

MOST_LEVELS, LONGEST, LONGEST_NUMBER = 128, 40, 6  # tokens of a code, characters of a token, digits of a number
HINT = "write <a_N>, <b_N>, … by level; <|a_N|>, <item_a_N>, <sid_LEVEL_N> and integers are read too"
TOKEN = re.compile(r"<[^<>]*>|\[[^\[\], ]*\]")
# 12 7, (12, 7), a_12 b_7, 12-7
BARE = re.compile(r"[\[(]?\s*([\w-]*\d(?:[\s,]+[\w-]*\d)+|\d+(?:-\d+)+)\s*[\])]?", re.ASCII)
MARK = re.compile(r"\W*(?:\w*_)?(?:begin|start|end|bos|eos)\W*", re.IGNORECASE | re.ASCII)  # <|sid_begin|>, <s_end>
WRAPPED = re.compile(r"<\|([\w:.-]+)\|>|<<?([\w:.-]+)>?>|\[([\w-]+)\]|[({]([\w-]+)[)}]|([\w-]+)", re.ASCII)
# a_12, item_a_12, a12, a:12
LETTERED = re.compile(r"(?:[a-z]+[_-])*?([a-z]{1,2})[_:.-]?(\d+)", re.IGNORECASE | re.ASCII)
LEVELLED = re.compile(r"(?:[a-z]+[_-]?)*?(\d+)[_-](\d+)", re.IGNORECASE | re.ASCII)  # 0_12, sid_0_12, s0_12
PLAIN = re.compile(r"(\d+)", re.ASCII)
DISK_HINT = "free some space, or name a file in another folder"
EXTRA_TOKENS = 1 << 16  # unused tokens that an index file may imply, beyond the number of tokens in it
COLLISIONS = 0.01  # share of items with a shared code above which `warnings` reports it


def level_name(level: int) -> str:
    """The letters of a level, from 0: a to z, then aa, ab, … zz.

    >>> [level_name(level) for level in (0, 25, 26, 53)]
    ['a', 'z', 'aa', 'bb']
    """
    first, second = divmod(level, len(string.ascii_lowercase))
    return (string.ascii_lowercase[first - 1] if first else "") + string.ascii_lowercase[second]


def read_codes(codes: Sequence[object], items: Sequence[str], location: str) -> np.ndarray:
    """Codes as int64 (items, levels). `codes`: of each item a list of tokens, or one string of tokens in angle
    brackets.

    Integers that continue from level to level (0 to 255, 256 to 511, …) are renumbered from 0 on each level. Raises
    `InputError` for other tokens, for codes of unequal length, and for tokens that name another level.
    """
    rows = [_tokens(code, item, location) for code, item in zip(codes, items, strict=True)]
    for row, item in zip(rows, items, strict=True):
        if len(row) != len(rows[0]):
            message = f"codes of unequal length: item {items[0]!r} has {len(rows[0])} tokens, {item!r} has {len(row)}"
            raise InputError(message, where=location, hint="rebuild the index")
    parsed = [[_parsed(token) for token in row] for row in rows]
    if all(_is_plain(token) for row in parsed for token in row):
        return _counted_by_level(np.array([[number for _, number in row] for row in parsed], dtype=np.int64))
    numbers = sum(_is_plain(row[0]) for row in parsed) > len(parsed) / 2  # a few other tokens are the wrong ones
    firsts = {int(mark) for (mark, _), *_ in parsed if mark.isdigit() and len(mark) < 3}
    first = 1 if firsts == {1} else 0  # number of the first level where tokens name their levels by numbers
    for row, raw, item in zip(parsed, rows, items, strict=True):
        for level, (mark, number) in enumerate(row):
            expected = ("",) if numbers else (level_name(level), str(level + first), f"0{level + first}")
            if mark not in expected or number < 0:
                message = f"item {item!r}: token {truncate(repr(raw[level]), 80)} on level {level + 1}"
                raise InputError(message, where=location, hint=HINT)
    return np.array([[number for _, number in row] for row in parsed], dtype=np.int64)


def _tokens(code: object, item: str, location: str) -> list[object]:
    """The tokens of one code, unparsed, without marks of its begin and end."""
    tokens: list[object] = []
    if isinstance(code, str):
        tokens += _parted(code)
    elif isinstance(code, list):
        tokens += code
    if len(tokens) > 2:
        begins, ends = (
            isinstance(token, str) and MARK.fullmatch(token) is not None for token in tokens[:: len(tokens) - 1]
        )
        tokens = tokens[begins : len(tokens) - ends]
    if not 0 < len(tokens) <= MOST_LEVELS:
        hint = f"write [token, …], 1 to {MOST_LEVELS} of them"
        raise InputError(f"the code of item {item!r} is not a list of tokens", where=location, hint=hint)
    return tokens


def _parted(text: str) -> list[str]:
    """The tokens of a code that is one text; none where it is none."""
    tokens = TOKEN.findall(text)
    if "".join(tokens) == "".join(text.split()):
        return tokens
    bare = BARE.fullmatch(text.strip())
    if bare is None:
        return []
    parted = re.split(r"[\s,]+", bare.group(1))
    return parted if len(parted) > 1 else parted[0].split("-")


def _parsed(token: object) -> tuple[str, int]:
    """The level that a token names by letters or digits, "" for a plain number; and its number, -1 for no token."""
    if isinstance(token, float) and token.is_integer():
        token = int(token)
    if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 10**6:
        return "", token
    wrapped = WRAPPED.fullmatch(token.strip()) if isinstance(token, str) and len(token) <= LONGEST else None
    inner = next(filter(None, wrapped.groups())) if wrapped is not None else ""
    for style in (PLAIN, LETTERED, LEVELLED):
        if (match := style.fullmatch(inner)) is not None:
            *marks, number = match.groups()
            return "".join(marks).lower(), int(number) if len(number) <= LONGEST_NUMBER else -1
    return "", -1


def _is_plain(token: tuple[str, int]) -> bool:
    return token[0] == "" and token[1] >= 0


def _counted_by_level(digits: np.ndarray) -> np.ndarray:
    """Numbers from 0 on each level, if the numbers of the levels follow each other."""
    minimum, limit = digits.min(axis=0), digits.max(axis=0)
    flat = digits.shape[1] > 1 and bool((minimum[1:] > limit[:-1]).all())
    return digits - minimum if flat else digits


@dataclass(frozen=True, eq=False)
class CodeTable:
    """`digits[i, l]` is the token number of item `i` on level `l`, in 0..sizes[l]-1; int64 (n_items, levels).

    Flat numbers: level `l` has `offsets[l]` to `offsets[l + 1] - 1`.
    """

    digits: np.ndarray
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        digits = np.array(self.digits, dtype=np.int64)
        digits.setflags(write=False)
        object.__setattr__(self, "digits", digits)
        if digits.ndim != 2 or digits.shape[1] != len(self.sizes) or not 0 < len(self.sizes) <= MOST_LEVELS:
            raise ValueError(f"digits {digits.shape} do not fit {len(self.sizes)} levels")
        if len(digits) and ((digits < 0) | (digits >= np.array(self.sizes))).any():
            raise ValueError("a number outside its level")

    @property
    def n_items(self) -> int:
        return len(self.digits)

    @property
    def levels(self) -> int:
        return len(self.sizes)

    @cached_property
    def offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.sizes)])

    @cached_property
    def flat(self) -> np.ndarray:
        """Flat token numbers, the shape of `digits`."""
        return self.digits + self.offsets[:-1]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.digits, list(self.sizes))

    @property
    def tokens(self) -> tuple[str, ...]:
        """The names of all code tokens in flat order: `<a_0>`, `<a_1>`, …, `<b_0>`, …"""
        return tuple(f"<{level_name(level)}_{digit}>" for level, size in enumerate(self.sizes) for digit in range(size))

    @cached_property
    def groups(self) -> np.ndarray:
        """Number of each item's code, int64 (n_items,): items with equal numbers share a code."""
        return np.unique(self.digits, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def collisions(self) -> np.ndarray:
        """Items whose code another item has too, ascending ids."""
        return np.flatnonzero(np.bincount(self.groups)[self.groups] > 1)

    def write(self, path: Path, items: Sequence[str]) -> None:
        """Writes an index file: {raw item id: [token, …]}."""
        write_text(path, self.text(items), DISK_HINT)

    def text(self, items: Sequence[str]) -> str:
        """Content of an index file."""
        names = np.array(self.tokens, dtype=object)[self.flat]
        return json.dumps(dict(zip(items, names.tolist(), strict=True)), ensure_ascii=False)

    @classmethod
    def read(cls, path: Path, items: Sequence[str]) -> CodeTable:
        """Reads an index file whose keys are the raw item ids of the catalogue, in any order.

        Raises `InputError` if the file is not such an object, if an item is missing, repeated or unknown, if codes
        differ in length, and for tokens in no known style (see `code_styles`). Shared codes are allowed.
        """
        index = read_json_object(path)
        if missing := [item for item in items if item not in index]:
            hint = "rebuild it for this data set"
            raise InputError(f"{len(missing)} items have no code ({_some(missing)})", where=str(path), hint=hint)
        if unknown := sorted(index.keys() - set(items)):
            hint = "the index is of another catalogue: rebuild it, or remove these items"
            raise InputError(f"{len(unknown)} unknown items have a code ({_some(unknown)})", where=str(path), hint=hint)
        digits = read_codes([index[item] for item in items], items, str(path))
        sizes = tuple(int(size) for size in digits.max(axis=0) + 1)
        if sum(sizes) > EXTRA_TOKENS + digits.size:
            message = f"{sum(sizes):,} tokens for {len(digits):,} items, each with its own embedding"
            raise InputError(message, where=str(path), hint="number the tokens of each level from 0")
        return cls(digits, sizes)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def inspect(table: CodeTable, targets: np.ndarray | None = None) -> dict[str, Any]:
    """JSON-able statistics of an index. `collision_rate`: share of items whose code another item has too; `groups`:
    number of shared codes; `biggest_group`: largest number of items with one code (1 if all are unique). With `targets`
    (item ids of test cases) also `affected_targets`: the share of them with a shared code."""
    counts = np.bincount(table.groups)
    shared = counts[table.groups] > 1
    entries: dict[str, Any] = {
        "fingerprint": table.fingerprint,
        "items": table.n_items,
        "codes": len(counts),
        "collision_rate": float(shared.mean()),
        "groups": int((counts > 1).sum()),
        "biggest_group": int(counts.max()),
        "levels": [_level(table, level) for level in range(table.levels)],
    }
    if targets is not None:
        entries["affected_targets"] = float(shared[targets].mean()) if len(targets) else 0.0
    return entries


def warnings(entries: dict[str, Any]) -> list[str]:
    """Problems of an index, one line each."""
    lines = []
    if (rate := entries["collision_rate"]) > COLLISIONS:
        lines.append(
            f"{rate:.1%} of the items share their code with another "
            f"(the biggest group has {entries['biggest_group']}): the model cannot rank such items separately"
        )
    for number, level in enumerate(entries["levels"], start=1):
        if level["used"] == 1 and entries["items"] > 1:
            lines.append(f"level {number} has the same token for all items")
    return lines


def _level(table: CodeTable, level: int) -> dict[str, Any]:
    """`used` tokens of `size`, `entropy` of their distribution in bits (at most log2(size)), `prefixes`: distinct codes
    up to this level, `fanout`: children of a prefix of the previous level, mean and maximum."""
    size = table.sizes[level]
    counts = np.bincount(table.digits[:, level], minlength=size)
    share = counts[counts > 0] / counts.sum()
    prefixes = np.unique(table.digits[:, : level + 1], axis=0)
    if level:
        _, children = np.unique(prefixes[:, :-1], axis=0, return_counts=True)
    else:
        children = np.array([len(prefixes)])
    return {
        "size": size,
        "used": int((counts > 0).sum()),
        "entropy": float(-(share * np.log2(share)).sum()) + 0.0,
        "prefixes": len(prefixes),
        "fanout": {"mean": float(children.mean()), "most": int(children.max())},
    }

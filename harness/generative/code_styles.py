"""Code tokens of published index files: parsers of the styles in use (`<a_12>`, `<|a_12|>`, `<sid_0_12>`, integers).

`CodeTable` defines what the numbers mean.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import numpy as np

from harness.errors import InputError, truncate

MOST_LEVELS, LONGEST, LONGEST_NUMBER = 128, 40, 6  # tokens of a code, characters of a token, digits of a number
HINT = "write <a_N>, <b_N>, … by level; <|a_N|>, <item_a_N>, <sid_LEVEL_N> and integers are read too"
TOKEN = re.compile(r"<[^<>]*>|\[[^\[\], ]*\]")
BARE = re.compile(
    r"[\[(]?\s*([\w-]*\d(?:[\s,]+[\w-]*\d)+|\d+(?:-\d+)+)\s*[\])]?", re.ASCII
)  # 12 7, (12, 7), a_12 b_7, 12-7
MARK = re.compile(r"\W*(?:\w*_)?(?:begin|start|end|bos|eos)\W*", re.IGNORECASE | re.ASCII)  # <|sid_begin|>, <s_end>
WRAPPED = re.compile(r"<\|([\w:.-]+)\|>|<<?([\w:.-]+)>?>|\[([\w-]+)\]|[({]([\w-]+)[)}]|([\w-]+)", re.ASCII)
LETTERED = re.compile(
    r"(?:[a-z]+[_-])*?([a-z]{1,2})[_:.-]?(\d+)", re.IGNORECASE | re.ASCII
)  # a_12, item_a_12, a12, a:12
LEVELLED = re.compile(r"(?:[a-z]+[_-]?)*?(\d+)[_-](\d+)", re.IGNORECASE | re.ASCII)  # 0_12, sid_0_12, s0_12
PLAIN = re.compile(r"\d+", re.ASCII)


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
    if len({len(row) for row in rows}) != 1:
        raise InputError("codes of unequal length", where=location, hint="rebuild the index")
    plain = [[_plain(token) for token in row] for row in rows]
    if all(isinstance(token, int) for row in plain for token in row):
        return _counted_by_level(np.array(plain, dtype=np.int64))
    first, digits = _first_level(plain), []
    for row, raw, item in zip(plain, rows, items, strict=True):
        digits.append([_digit(token, level, first) for level, token in enumerate(row)])
        if -1 in digits[-1]:
            level = digits[-1].index(-1)
            message = f"item {item!r}: token {truncate(repr(raw[level]), 80)} on level {level + 1}"
            raise InputError(message, where=location, hint=HINT)
    return np.array(digits, dtype=np.int64)


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


def _plain(token: object) -> str | int:
    """A token without its brackets; integers as `int`."""
    if isinstance(token, float) and token.is_integer():
        token = int(token)
    if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 10**6:
        return token
    text = str(token)
    wrapped = WRAPPED.fullmatch(text.strip())
    inner = next(filter(None, wrapped.groups())) if wrapped is not None else f"\0{text}"
    if isinstance(token, str) and PLAIN.fullmatch(inner) and len(inner) <= LONGEST_NUMBER:
        return int(inner)
    return inner if isinstance(token, str) and len(text) <= LONGEST else f"\0{text}"


def _first_level(rows: Sequence[Sequence[str | int]]) -> int:
    """Number of the first level (0 or 1) where tokens name their levels by numbers."""
    results = (LEVELLED.fullmatch(str(row[0])) for row in rows)
    values = {int(each.group(1)) for each in results if each is not None and len(each.group(1)) < 3}
    return 1 if values == {1} else 0


def _digit(token: str | int, level: int, first: int) -> int:
    """The token's number on its level, -1 if it is not a token of the level."""
    text = str(token)
    lettered, levelled = LETTERED.fullmatch(text), LEVELLED.fullmatch(text)
    if lettered is not None:
        matches, number = lettered.group(1).lower() == level_name(level), lettered.group(2)
    elif levelled is not None:
        matches, number = levelled.group(1) in (str(level + first), f"0{level + first}"), levelled.group(2)
    else:
        matches, number = False, ""
    return int(number) if matches and len(number) <= LONGEST_NUMBER else -1


def _counted_by_level(digits: np.ndarray) -> np.ndarray:
    """Numbers from 0 on each level, if the numbers of the levels follow each other."""
    minimum, limit = digits.min(axis=0), digits.max(axis=0)
    flat = digits.shape[1] > 1 and bool((minimum[1:] > limit[:-1]).all())
    return digits - minimum if flat else digits

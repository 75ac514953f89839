"""The published steps written down as plainly as can be: what the fast ones must equal. Slow, and meant to be read.

Rows are (user, item, rating, time) in the order of lines.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

Row = tuple[str, str, float, int]
WORD = 2**64


@dataclass(frozen=True)
class Expected:
    """Users in order with their (item, time) in order; items in the order of their ids."""

    sequences: dict[str, list[tuple[str, int]]]
    items: list[str]


def prepared(rows: list[Row], described: set[str], *, tie_seed: int | None, core: int = 5) -> Expected:
    """`tie_seed` None: ties by line."""
    numbered = [(user, item, time, line) for line, (user, item, _, time) in enumerate(rows)]
    first: dict[tuple[str, str], tuple[str, str, int, int]] = {}
    for row in sorted(numbered, key=lambda row: (row[2], row[3])):
        first.setdefault((row[0], row[1]), row)
    remaining = [row for row in first.values() if row[1] in described]
    while True:
        users, items = Counter(row[0] for row in remaining), Counter(row[1] for row in remaining)
        stay = [row for row in remaining if users[row[0]] >= core and items[row[1]] >= core]
        if stay == remaining:
            break
        remaining = stay

    def place(row: tuple[str, str, int, int]) -> tuple[int, int, str]:
        tie = row[3] if tie_seed is None else tie_hash(row[0], row[1], tie_seed)
        return row[2], tie, row[1]

    def begin(user: str) -> tuple[int, str]:
        if tie_seed is None:
            return min(row[3] for row in remaining if row[0] == user), ""
        return min(row[2] for row in remaining if row[0] == user), user

    sequences = {
        user: [(row[1], row[2]) for row in sorted((row for row in remaining if row[0] == user), key=place)]
        for user in sorted({row[0] for row in remaining}, key=begin)
    }
    return Expected(sequences, list(dict.fromkeys(item for row in sequences.values() for item, _ in row)))


def tie_hash(user: str, item: str, seed: int) -> int:
    """SplitMix64's finaliser over the hashes of user and item, as in Steele, Lea and Flood (2014)."""
    return mixed(blake(f"{seed}\n{user}") ^ mixed(blake(item)))


def mixed(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % WORD
    return value ^ (value >> 31)


def blake(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

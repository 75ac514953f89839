"""`CodeTable`: codes of items, one token a level; LC-Rec-style index files; statistics of an index.

A code token has a number on its level and a flat number over all levels, and is named `<a_0>`, `<a_1>`, …, `<b_0>`, ….
`inspect` describes the quality of an index: collisions, usage and entropy of each level, branching of prefixes. The
run's record, `harness index build` and `harness index inspect` show the same description.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.files import write_text
from harness.core.hashing import fingerprint
from harness.core.json_files import read_json_object
from harness.errors import InputError
from harness.generative.code_styles import MOST_LEVELS, level_name, read_codes

DISK_HINT = "free some space, or name a file in another folder"
EXTRA_TOKENS = 1 << 16  # unused tokens that an index file may imply, beyond the number of tokens in it
COLLISIONS = 0.01  # share of items with a shared code above which `warnings` reports it


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
    _, inverse, counts = np.unique(table.digits, axis=0, return_inverse=True, return_counts=True)
    shared = counts[inverse.reshape(-1)] > 1
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

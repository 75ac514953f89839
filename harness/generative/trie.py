"""The trie of all item codes, as flat arrays: which tokens may follow a prefix, for many prefixes at once."""

from __future__ import annotations

import numpy as np

from harness.generative.codes import CodeTable


class CodeTrie:
    """Nodes of depth d are numbered by the order of their prefixes; the children of node `n` are the nodes
    `first[d][n] .. first[d][n + 1] - 1` of depth d + 1, and `digit[d + 1][child]` is the token that leads to them.

    A node of the last depth is a code; `items_of(leaf)` are the items that own it, by the order of a fixed hash of
    their ids, which never looks at a target.
    """

    def __init__(self, table: CodeTable) -> None:
        order = np.lexsort(table.digits.T[::-1])
        digits = table.digits[order]
        self.levels = table.levels
        self.first: list[np.ndarray] = []
        self.digit: list[np.ndarray] = [np.zeros(1, dtype=np.int64)]
        starts = np.zeros(1, dtype=np.int64)  # row of `digits` where each node of this depth begins
        new = np.zeros(len(digits), dtype=bool)
        for level in range(table.levels):
            new = new | np.concatenate([[True], digits[1:, level] != digits[:-1, level]])
            children = np.flatnonzero(new)
            self.first.append(np.searchsorted(children, np.concatenate([starts, [len(digits)]])))
            self.digit.append(digits[children, level])
            starts = children
        self._begin = np.concatenate([starts, [len(digits)]])
        self._items = _declared_order(order, self._begin)

    @property
    def codes(self) -> int:
        """How many different codes there are."""
        return len(self._begin) - 1

    def width(self, depth: int) -> int:
        """The largest number of children of a node at `depth`."""
        return int(np.diff(self.first[depth]).max())

    def children(self, depth: int, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For nodes of any shape: the child nodes, shape (*nodes.shape, width), and a mask of those that exist."""
        begin, end = self.first[depth][nodes], self.first[depth][nodes + 1]
        child = begin[..., None] + np.arange(self.width(depth))
        exists = child < end[..., None]
        return np.where(exists, child, 0), exists

    def items_of(self, leaf: int) -> np.ndarray:
        """The items that own this code, in their declared order."""
        return self._items[self._begin[leaf] : self._begin[leaf + 1]]

    def single_items(self) -> np.ndarray | None:
        """Item of each leaf where every code has one owner, else None."""
        return self._items if self.codes == len(self._items) else None


def _declared_order(items: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """Items of equal codes by a multiplicative hash of their ids: neither popularity nor position decides."""
    hashed = (items.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    leaf = np.repeat(np.arange(len(begin) - 1), np.diff(begin))
    return items[np.lexsort((items, hashed, leaf))]

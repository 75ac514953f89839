"""The trie of all item codes as flat (CSR) arrays: children of many prefixes at once.

Children are listed and not padded to the widest node of a level, so that memory is linear in the number of codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from harness.core.hashing import fingerprint
from harness.generative.item_codes import CodeTable


@dataclass(frozen=True)
class Children:
    """Children of the beams of each user, all beams of a user in one row. `node` (batch, most): node of the next depth;
    `beam`: the beam it continues; `real`: False in the padding of a shorter row (node and beam 0)."""

    node: torch.Tensor
    beam: torch.Tensor
    real: torch.Tensor


class CodeTrie:
    """Nodes of depth d are numbered in the order of their prefixes. The children of node `n` are the nodes
    `first[d][n]` to `first[d][n + 1] - 1` of depth d + 1; `digit[d + 1][child]` is the token that leads to `child`.

    `prefixes[item, d]` is the node of depth d that the item's token d continues, shape (n_items, levels).

    A node of the last depth is a code; `items_of(leaf)` are its items, ordered by a fixed hash of their ids. The arrays
    are on the CPU; `on(device)` is a copy for search on a device.
    """

    def __init__(self, table: CodeTable) -> None:
        order = np.lexsort(table.digits.T[::-1])
        digits = table.digits[order]
        self.levels, self.sizes = table.levels, table.sizes
        self.first: list[torch.Tensor] = []
        self.digit: list[torch.Tensor] = [torch.zeros(1, dtype=torch.int64)]
        starts = np.zeros(1, dtype=np.int64)  # first row of `digits` of each node of this depth
        new = np.zeros(len(digits), dtype=bool)
        ahead = [np.zeros(len(digits), dtype=np.int64)]
        for level in range(table.levels):
            new[:1] = True
            new[1:] |= digits[1:, level] != digits[:-1, level]
            children = np.flatnonzero(new)
            self.first.append(torch.from_numpy(np.searchsorted(children, np.append(starts, len(digits)))))
            self.digit.append(torch.from_numpy(digits[children, level]))
            starts = children
            ahead.append(np.cumsum(new) - 1)
        self._begin = np.append(starts, len(digits))
        nodes = np.empty((len(digits), table.levels + 1), np.int64)
        nodes[order] = np.column_stack(ahead)
        self.prefixes = torch.from_numpy(nodes[:, :-1].copy())
        self._nodes = nodes  # the node of each depth that leads to each item
        self._items = _declared_order(order, self._begin)

    @property
    def codes(self) -> int:
        """Number of distinct codes."""
        return len(self._begin) - 1

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self._items)

    @property
    def leaves(self) -> np.ndarray:
        """The leaf of each item, int64 (n_items,)."""
        return self._nodes[:, -1]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the codes and of their items, in the order of ids."""
        arrays = (array.cpu().numpy() for array in (*self.first, *self.digit))
        return fingerprint(*arrays, self._begin, self._items)

    def on(self, device: str | torch.device) -> CodeTrie:
        """A trie with the arrays of the search on `device`."""
        code_trie = object.__new__(CodeTrie)
        code_trie.__dict__ |= self.__dict__
        code_trie.first = [array.to(device) for array in self.first]
        code_trie.digit = [array.to(device) for array in self.digit]
        code_trie.prefixes = self.prefixes.to(device)
        return code_trie

    def fan(self, depth: int, nodes: torch.Tensor) -> torch.Tensor:
        """Number of children of nodes of any shape."""
        return self.first[depth][nodes + 1] - self.first[depth][nodes]

    def listed(self, depth: int, nodes: torch.Tensor, fan: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The children of all nodes (n,), which have `fan` (n,) children each: index of the node, and the child's
        token, ascending for each node; (children,)."""
        owner, nth = _counted(fan)
        return owner, self.digit[depth + 1][self.first[depth][nodes][owner] + nth]

    def children(self, depth: int, nodes: torch.Tensor) -> Children:
        """Children of nodes (batch, beams): ordered by beam, those of one beam in the order of the trie."""
        batch, width = nodes.shape
        fan = self.fan(depth, nodes)
        ends = fan.cumsum(dim=1)
        owner, nth = _counted(fan.reshape(-1))
        row, column = owner // width, (ends - fan).reshape(-1)[owner] + nth
        limit = int(ends[:, -1].max())
        node, beam = (torch.zeros(batch, limit, dtype=torch.int64, device=nodes.device) for _ in range(2))
        node[row, column] = self.first[depth][nodes.reshape(-1)][owner] + nth
        beam[row, column] = owner % width
        return Children(node, beam, torch.arange(limit, device=nodes.device) < ends[:, -1:])

    def spans(self, leaves: range) -> list[range]:
        """The nodes of each depth, 0 to the last, that lead to these leaves."""
        spans = [leaves]
        for first in reversed(self.first):
            low, high = spans[0].start, spans[0].stop - 1
            ends = torch.tensor([low, high], device=first.device)
            begin, last = (torch.searchsorted(first, ends, right=True) - 1).tolist()
            spans.insert(0, range(begin, last + 1))
        return spans

    def covered(self, rows: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """For each depth from 1 on, bool (rows, nodes of the depth): True if all items below a node are in the row."""
        masks = []
        for depth in range(1, self.levels + 1):
            nodes, size = self._nodes[:, depth], len(self.digit[depth])
            total = np.bincount(nodes, minlength=size)
            mask = np.zeros((len(rows), size), dtype=bool)
            for row, items in enumerate(rows):
                targets, counts = np.unique(nodes[np.unique(items)], return_counts=True)
                mask[row, targets] = counts == total[targets]
            masks.append(torch.from_numpy(mask).to(self.prefixes.device))
        return masks

    def items_of(self, leaf: int) -> np.ndarray:
        """The items of a code, in their declared order."""
        return self._items[self._begin[leaf] : self._begin[leaf + 1]]

    def single_items(self) -> np.ndarray | None:
        """Item of each leaf if all codes are unique, else None."""
        return self._items if self.codes == len(self._items) else None


def _counted(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For `counts` (n,) elements of n owners one after the other: the owner of each element, and its number there."""
    total = int(counts.sum())
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=total)
    return owner, torch.arange(total, device=counts.device) - (counts.cumsum(0) - counts)[owner]


def _declared_order(items: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """Orders items of equal codes by a multiplicative hash of their ids, independent of popularity and position."""
    hashed = (items.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    leaf = np.repeat(np.arange(len(begin) - 1), np.diff(begin))
    return items[np.lexsort((items, hashed, leaf))]

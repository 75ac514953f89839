"""The trie of all item codes, as flat (CSR) arrays: which tokens may follow a prefix, for many prefixes at once.

Memory grows with the codes, never with the product of anything and a node's widest fan: children are listed, not padded
to the widest node of a level.
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
    """What may follow the beams of each user, all beams of a user in one row: `node` (batch, most), the node of the
    next depth; `beam`, which beam it continues; `real`, false behind the end of a shorter row (node and beam 0)."""

    node: torch.Tensor
    beam: torch.Tensor
    real: torch.Tensor


class CodeTrie:
    """Nodes of depth d are numbered by the order of their prefixes; the children of node `n` are the nodes
    `first[d][n] .. first[d][n + 1] - 1` of depth d + 1, and `digit[d + 1][child]` is the token that leads to them.

    `prefixes[item, d]` is the node of depth d that leads to the item's token d, shape (n_items, levels).

    A node of the last depth is a code; `items_of(leaf)` are the items that own it, by the order of a fixed hash of
    their ids, which never looks at a target. The arrays lie on the CPU; `on(device)` gives a trie that searches there.
    """

    def __init__(self, table: CodeTable) -> None:
        order = np.lexsort(table.digits.T[::-1])
        digits = table.digits[order]
        self.levels = table.levels
        self.first: list[torch.Tensor] = []
        self.digit: list[torch.Tensor] = [torch.zeros(1, dtype=torch.int64)]
        starts = np.zeros(1, dtype=np.int64)  # row of `digits` where each node of this depth begins
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
        self._nodes = nodes  # of each depth, that lead to each item
        self._items = _declared_order(order, self._begin)

    @property
    def codes(self) -> int:
        """How many different codes there are."""
        return len(self._begin) - 1

    @property
    def n_items(self) -> int:
        """How many items the codes lead to."""
        return len(self._items)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the codes and of the items that they lead to, in the order of their ids."""
        arrays = (array.cpu().numpy() for array in (*self.first, *self.digit))
        return fingerprint(*arrays, self._begin, self._items)

    def on(self, device: str | torch.device) -> CodeTrie:
        """This trie with the arrays of the search on `device`."""
        code_trie = object.__new__(CodeTrie)
        code_trie.__dict__ |= self.__dict__
        code_trie.first = [array.to(device) for array in self.first]
        code_trie.digit = [array.to(device) for array in self.digit]
        code_trie.prefixes = self.prefixes.to(device)
        return code_trie

    def fan(self, depth: int, nodes: torch.Tensor) -> torch.Tensor:
        """Number of children of nodes of any shape."""
        return self.first[depth][nodes + 1] - self.first[depth][nodes]

    def children(self, depth: int, nodes: torch.Tensor) -> Children:
        """Of the beams' nodes (batch, beams): in the order of the beams, those of one beam in the order of the trie."""
        batch, width = nodes.shape
        fan = self.fan(depth, nodes)
        ends = fan.cumsum(dim=1)
        flat = fan.reshape(-1)
        total = int(flat.sum())
        owner = torch.repeat_interleave(torch.arange(batch * width, device=nodes.device), flat, output_size=total)
        nth = torch.arange(total, device=nodes.device) - (flat.cumsum(0) - flat)[owner]
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
        """For each depth from 1 on, bool (rows, nodes of the depth): whether a node leads to items of the row alone."""
        masks = []
        for depth in range(1, self.levels + 1):
            nodes, size = self._nodes[:, depth], len(self.digit[depth])
            total = np.bincount(nodes, minlength=size)
            mask = np.zeros((len(rows), size), dtype=bool)
            for row, items in enumerate(rows):
                own, counts = np.unique(nodes[np.unique(items)], return_counts=True)
                mask[row, own] = counts == total[own]
            masks.append(torch.from_numpy(mask).to(self.prefixes.device))
        return masks

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

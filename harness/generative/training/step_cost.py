"""`Cost`: what one part of an optimiser step costs, before it is computed.

A step that is too large for the memory is computed in parts. Its loss is a sum of means over all of the step's terms
(tokens, items), so that a part's mean counts by how many of them it has: a mean of the parts' means would give one
target of a small part the weight of many of a large one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Counts = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Cost:
    """`counts`: over how many terms each of the part's means is, in all processes. `share(counts)` computes this
    process's share of the step's loss, a scalar, where `counts` are those of all parts of the step together."""

    counts: Counts
    share: Callable[[Counts], torch.Tensor]

    def value(self) -> torch.Tensor:
        """The loss of a step that has this part alone."""
        return self.share(self.counts)


def together(costs: list[Cost]) -> Counts:
    """The counts of a step of these parts.

    >>> together([Cost((3, 1), torch.tensor), Cost((5, 0), torch.tensor)])
    (8, 1)
    """
    return tuple(sum(counts) for counts in zip(*(cost.counts for cost in costs), strict=True))

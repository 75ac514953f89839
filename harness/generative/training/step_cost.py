"""The cost of one part of an optimizer step under gradient accumulation.

The loss of a step is a sum of means over all terms (tokens, items) of the step, so that each part is weighted by its
number of terms. A mean of the parts' means would overweight the targets of small parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Counts = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Cost:
    """`counts`: number of terms of each of the part's means, over all processes. `share(counts)` computes this
    process's share of the step's loss, a scalar, given the counts of all parts of the step together."""

    counts: Counts
    share: Callable[[Counts], torch.Tensor]

    def value(self) -> torch.Tensor:
        """The loss of a step of this part only."""
        return self.share(self.counts)


def together(costs: list[Cost]) -> Counts:
    """The counts of a step of these parts.

    >>> together([Cost((3, 1), torch.tensor), Cost((5, 0), torch.tensor)])
    (8, 1)
    """
    return tuple(sum(counts) for counts in zip(*(cost.counts for cost in costs), strict=True))

"""`Term`: what a method may add to the loss of responses. LC-Rec adds nothing, EAGER-LLM its contrast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import nn

NO_ITEM = -1  # instead of an item: a response that names none


class Term(Protocol):
    """A loss of summary states, with parameters of its own that a stage trains beside the model's."""

    @property
    def sequential_only(self) -> bool:
        """Whether responses of text tasks count as naming no item, whatever they say."""
        ...

    def draw(self, n_items: int, rng: np.random.Generator) -> np.ndarray:
        """The items that a step is shown besides its targets, int64."""
        ...

    def counted(self, items: np.ndarray) -> int:
        """How many of the responses naming `items` (n,), or `NO_ITEM`, the loss is a mean over."""
        ...

    def __call__(self, states: torch.Tensor, items: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """The loss (a scalar) of summary `states` (n, width) of responses naming `items` (n,), or `NO_ITEM`."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What it trains."""
        ...

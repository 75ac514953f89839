"""Which of a stage's states is taken: the last, or the one that validation likes best, with an end where none is
better for long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass
class EarlyStopping:
    """`measure()` is asked every `every` steps, and at the end; higher is better. After `patience` answers that are
    none the best, the stage ends. `seen` are the answers so far, [step, value] each; `values` the best state."""

    measure: Callable[[], float]
    every: int
    patience: int
    history: list[tuple[int, float]] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)

    @property
    def best(self) -> tuple[int, float]:
        """The first step with the best answer, and the answer; (0, -inf) before any."""
        return max(self.history, key=lambda pair: (pair[1], -pair[0]), default=(0, float("-inf")))

    @property
    def should_stop(self) -> bool:
        """Whether it has been long enough since the best."""
        return sum(step > self.best[0] for step, _ in self.history) >= self.patience

    def evaluate(self, step: int, parameters: Sequence[nn.Parameter]) -> float:
        """Measures the state after `step` steps, and keeps a copy where it is the best."""
        value = self.measure()
        self.history.append((step, value))
        if self.best[0] == step:
            self.values = [parameter.detach().clone() for parameter in parameters]
        return value

    def restore_best(self, parameters: Sequence[nn.Parameter]) -> None:
        """The parameters take the best state, where anything was measured."""
        with torch.no_grad():
            for parameter, value in zip(parameters, self.values, strict=False):
                parameter.copy_(value)

    def record(self) -> dict[str, Any]:
        """For the run's record: what was measured, and what was chosen."""
        step, value = self.best
        return {"chosen_step": step, "valid": value, "looks": [list(pair) for pair in self.history]}

"""Hooks of the training loop: early stopping on validation, and callbacks with a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


class Callback:
    """A hook after each step. Its state, and the model's `buffers`, are part of the checkpoints. Only for stages in one
    process."""

    buffers: Sequence[torch.Tensor] = ()

    def on_step_end(self, step: int) -> Mapping[str, Any]:
        """Called after step number `step` (from 1). Returns fields of a log entry; empty: default logging."""
        return {}

    def state_dict(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """JSON-able facts, and tensors."""
        return {}, {}

    def load_state_dict(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Loads what `state_dict` returned."""


@dataclass
class EarlyStopping:
    """Ends a stage after `patience` evaluations without improvement, and restores its best state.

    `measure()` is called every `every` steps and after the last; higher is better. `history` has [step, value] of each
    evaluation, `values` a copy of the best state.
    """

    measure: Callable[[], float]
    every: int
    patience: int
    history: list[tuple[int, float]] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)

    @property
    def best(self) -> tuple[int, float]:
        """The first step with the highest value, and the value; (0, -inf) before any evaluation."""
        return max(self.history, key=lambda pair: (pair[1], -pair[0]), default=(0, float("-inf")))

    @property
    def should_stop(self) -> bool:
        """True after `patience` evaluations without improvement."""
        return sum(step > self.best[0] for step, _ in self.history) >= self.patience

    def evaluate(self, step: int, tensors: Sequence[torch.Tensor]) -> float:
        """Measures the state after `step` steps, and copies `tensors` if it is the best so far."""
        value = self.measure()
        self.history.append((step, value))
        if self.best[0] == step:
            self.values = [tensor.detach().clone() for tensor in tensors]
        return value

    @torch.no_grad()
    def restore_best(self, tensors: Sequence[torch.Tensor]) -> None:
        """Copies the best state into `tensors`; does nothing before any evaluation."""
        for tensor, value in zip(tensors, self.values, strict=bool(self.values)):
            tensor.copy_(value)

    def record(self) -> dict[str, Any]:
        """For the run's record: the evaluations and the chosen step."""
        step, value = self.best
        return {"chosen_step": step, "valid": value, "looks": [list(pair) for pair in self.history]}

"""What a tuning stage keeps on disk so that it can go on: parameters, optimiser moments, the step, and what validation
chose so far, as one snapshot a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.generative.choosing import Choice
from harness.generative.snapshots import read_snapshot, write_snapshot


class StageKeeper:
    """Keeps and restores one stage in `folder`; keeps nothing where `folder` is None."""

    def __init__(
        self,
        folder: Path | None,
        stage: str,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        choice: Choice | None = None,
    ) -> None:
        self.path = None if folder is None else folder / f"{stage.replace(' ', '-')}.safetensors"
        self.parameters, self.optimizer, self.choice = parameters, optimizer, choice

    def keep(self, step: int, losses: list[float], seconds: float) -> None:
        """Writes the state after `step` steps and `seconds`, counted over all sessions."""
        if self.path is None:
            return
        tensors = {}
        for number, parameter in enumerate(self.parameters):
            tensors[f"{number}.value"] = parameter
            for name, value in self.optimizer.state[parameter].items():
                tensors[f"{number}.{name}"] = value
        facts: dict[str, Any] = {"step": step, "losses": losses, "seconds": seconds}
        if self.choice is not None:
            facts["seen"] = self.choice.seen
            tensors |= {f"{number}.best": value for number, value in enumerate(self.choice.values)}
        write_snapshot(self.path, tensors, facts)

    def restore(self) -> tuple[int, list[float], float]:
        """Steps done, their last losses and the seconds they took; (0, [], 0) where nothing is kept. Changes
        parameters, optimiser and choice."""
        found = read_snapshot(self.path)
        if found is None:
            return 0, [], 0.0
        facts, tensors = found
        own: list[dict[str, torch.Tensor]] = [{} for _ in self.parameters]
        for name, value in tensors.items():
            number, _, field = name.partition(".")
            own[int(number)][field] = value
        with torch.no_grad():
            for parameter, kept in zip(self.parameters, own, strict=True):
                parameter.copy_(kept.pop("value"))
                best = kept.pop("best", None)
                self.optimizer.state[parameter] = {name: value.to(parameter.device) for name, value in kept.items()}
                if self.choice is not None and best is not None:
                    self.choice.values.append(best.to(parameter.device))
        if self.choice is not None:
            self.choice.seen = [(int(step), float(value)) for step, value in facts["seen"]]
        return int(facts["step"]), list(facts["losses"]), float(facts["seconds"])

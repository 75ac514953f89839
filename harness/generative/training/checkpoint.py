"""What a tuning stage keeps on disk so that it can go on: parameters, optimiser moments, the step, and what validation
chose so far, as one snapshot a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.generative.models.fsdp import in_pieces, whole
from harness.generative.training.early_stopping import Choice
from harness.generative.training.snapshots import read_snapshot, write_snapshot


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
        """Writes the state after `step` steps and `seconds`, counted over all sessions. What lies in pieces on several
        processes is put together by all of them, for the one that writes."""
        if self.path is None and not any(map(in_pieces, self.parameters)):
            return
        tensors: dict[str, torch.Tensor] = {}
        for number, parameter in enumerate(self.parameters):
            for name, value in {"value": parameter.detach(), **self.optimizer.state[parameter]}.items():
                found = whole(value).cpu() if in_pieces(value) else value
                if self.path is not None:
                    tensors[f"{number}.{name}"] = found
        if self.path is None:
            return
        facts: dict[str, Any] = {"step": step, "losses": losses, "seconds": seconds}
        if self.choice is not None:
            facts["seen"] = self.choice.seen
            tensors |= {f"{number}.best": value for number, value in enumerate(self.choice.values)}
        write_snapshot(self.path, tensors, facts)

    def read(self) -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]] | None:
        """Facts, and for each parameter what is kept of it by name; None where nothing is kept."""
        found = read_snapshot(self.path)
        if found is None:
            return None
        own: list[dict[str, torch.Tensor]] = [{} for _ in self.parameters]
        for name, value in found[1].items():
            number, _, field = name.partition(".")
            own[int(number)][field] = value
        return found[0], own

    def restore(self) -> tuple[int, list[float], float]:
        """Steps done, their last losses and the seconds they took; (0, [], 0) where nothing is kept. Changes
        parameters, optimiser and choice."""
        found = self.read()
        if found is None:
            return 0, [], 0.0
        facts, own = found
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

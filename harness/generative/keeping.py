"""What a tuning stage keeps on disk so that it can go on: parameters, optimiser moments, the step, and what validation
chose so far.

Safetensors and JSON only. A checkpoint is written beside the old one and takes its place in one step, so that a kill
leaves one of the two.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from harness.generative.choosing import Choice


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
        self.folder = None if folder is None else folder / stage.replace(" ", "-")
        self.parameters, self.optimizer, self.choice = parameters, optimizer, choice

    def keep(self, step: int, losses: list[float], seconds: float) -> None:
        """Writes the state after `step` steps and `seconds`, counted over all sessions."""
        if self.folder is None:
            return
        tensors = {}
        for number, parameter in enumerate(self.parameters):
            tensors[f"{number}.value"] = parameter.detach().contiguous()
            for name, value in self.optimizer.state[parameter].items():
                tensors[f"{number}.{name}"] = value.detach().contiguous()
        state: dict[str, Any] = {"step": step, "losses": losses, "seconds": seconds}
        if self.choice is not None:
            state["seen"] = self.choice.seen
            tensors |= {f"{number}.best": value.contiguous() for number, value in enumerate(self.choice.values)}
        new = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        save_file(tensors, new / "state.safetensors")
        (new / "stage.json").write_text(json.dumps(state))
        old = self.folder.with_name(f"{self.folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(old)
        new.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def restore(self) -> tuple[int, list[float], float]:
        """Steps done, their last losses and the seconds they took; (0, [], 0) where nothing is kept. Changes
        parameters, optimiser and choice."""
        if self.folder is None:
            return 0, [], 0.0
        found = next((f for f in (self.folder, self.folder.with_name(f"{self.folder.name}.old")) if f.is_dir()), None)
        if found is None:
            return 0, [], 0.0
        state = json.loads((found / "stage.json").read_text())
        tensors = load_file(found / "state.safetensors")
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters):
                names = [name for name in tensors if name.split(".")[0] == str(number)]
                parameter.copy_(tensors[f"{number}.value"])
                self.optimizer.state[parameter] = {
                    name.split(".", 1)[1]: tensors[name].to(parameter.device)
                    for name in names
                    if not name.endswith((".value", ".best"))
                }
        if self.choice is not None:
            self.choice.seen = [(int(step), float(value)) for step, value in state["seen"]]
            best = (f"{number}.best" for number in range(len(self.parameters)))
            self.choice.values = [tensors[name].to(self.parameters[0].device) for name in best if name in tensors]
        return int(state["step"]), list(state["losses"]), float(state["seconds"])

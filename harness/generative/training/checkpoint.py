"""What a tuning stage keeps on disk so that it can go on: parameters, optimiser moments, the step, and what validation
chose so far, as one snapshot a stage.

Snapshots of work under way: one safetensors file each, tensors and JSON facts together, so that one rename puts the
new one in the place of the old one and a kill leaves one of the two, whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from harness.core.files import write_atomic
from harness.core.timer import CheckpointTimer
from harness.generative.models.fsdp import full_tensor, is_sharded
from harness.generative.training.early_stopping import EarlyStopping

MEND = "free some space; the same command continues"


FACTS = "facts"


Tensors = dict[str, torch.Tensor]


def write_snapshot(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Writes both, whole or not at all. Raises `InputError` where the disk refuses."""
    plain = {name: value.detach().contiguous() for name, value in tensors.items()}
    metadata = {FACTS: json.dumps(facts)}
    write_atomic(path, lambda temporary: save_file(plain, temporary, metadata=metadata), MEND)


def read_snapshot(path: Path | None) -> tuple[dict[str, Any], Tensors] | None:
    """Facts and tensors; None where there is none, or one that is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[FACTS])
            names = file.keys()
            return facts, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, KeyError, ValueError):
        return None


def cached_array(folder: Path | None, name: str, mark: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What `make` makes, kept as `name` under `folder` for a resumed run; `mark` stands for all that it depends on."""
    path = None if folder is None else folder / f"{name.replace(' ', '-')}.safetensors"
    pair = read_snapshot(path)
    if pair is not None and pair[0] == {"mark": mark}:
        return pair[1]["values"].numpy()
    values = make()
    if path is not None:
        write_snapshot(path, {"values": torch.from_numpy(values)}, {"mark": mark})
    return values


def flat_optimizer(optimizer: torch.optim.Optimizer) -> tuple[Tensors, list[Any]]:
    """The optimiser's state as named tensors (`parameter number.name`) and JSON-able parameter groups."""
    state = optimizer.state_dict()
    tensors = {f"{key}.{name}": value for key, entry in state["state"].items() for name, value in entry.items()}
    return tensors, state["param_groups"]


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, groups: list[Any]) -> None:
    """Takes `flat_optimizer`'s state back."""
    state: dict[int, Tensors] = {}
    for name, value in tensors.items():
        key, _, field = name.partition(".")
        state.setdefault(int(key), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def random_state(device: str) -> Tensors:
    """Where torch's own generators stand, on the CPU and on a CUDA device."""
    present = {"random/cuda": torch.cuda.get_rng_state(device)} if device.startswith("cuda") else {}
    return {"random/cpu": torch.get_rng_state(), **present}


def set_random_state(tensors: Mapping[str, torch.Tensor], device: str) -> None:
    """Takes `random_state` back."""
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)


class LoopCheckpointer:
    """Keeps a training loop of one model and one optimiser in the file `path` (None: nowhere).

    `mark` stands for everything that decides the training, so that no other training's state is taken up. The schedule
    of the learning rate is part of what is kept.
    """

    def __init__(
        self,
        path: Path | None,
        mark: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self.path, self.mark = path, mark
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.pace = CheckpointTimer()

    @property
    def due(self) -> bool:
        """Whether it is time to `keep`."""
        return self.path is not None and self.pace.due

    def save(self, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Writes the state as it is now, with the caller's own `facts` and `tensors`."""
        if self.path is None:
            return
        flat, groups = flat_optimizer(self.optimizer)
        parts = {"model": self.model.state_dict(), "optimizer": flat, "own": tensors}
        by_name = {f"{part}/{name}": value for part, group in parts.items() for name, value in group.items()}
        schedule = {"last_epoch": self.schedule.last_epoch, "rates": self.schedule.get_last_lr()}
        with self.pace.timed():
            write_snapshot(
                self.path, by_name, {"mark": self.mark, "groups": groups, "schedule": schedule, "own": facts}
            )

    def restore(self) -> tuple[dict[str, Any], Tensors] | None:
        """Sets model, optimiser and schedule to what is kept; gives the caller's own part; None where there is none."""
        pair = read_snapshot(self.path)
        if pair is None or pair[0]["mark"] != self.mark:
            return None
        facts, tensors = pair
        parts: dict[str, Tensors] = {"model": {}, "optimizer": {}, "own": {}}
        for name, value in tensors.items():
            part, _, own = name.partition("/")
            parts[part][own] = value
        self.model.load_state_dict(parts["model"])
        restore_optimizer(self.optimizer, parts["optimizer"], facts["groups"])
        self.schedule.last_epoch = facts["schedule"]["last_epoch"]
        self.schedule._last_lr = facts["schedule"]["rates"]
        return facts["own"], parts["own"]


class Checkpointer:
    """Keeps and restores one stage in `folder`; keeps nothing where `folder` is None."""

    def __init__(
        self,
        folder: Path | None,
        stage: str,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        choice: EarlyStopping | None = None,
    ) -> None:
        self.path = None if folder is None else folder / f"{stage.replace(' ', '-')}.safetensors"
        self.parameters, self.optimizer, self.choice = parameters, optimizer, choice

    def save(self, step: int, losses: list[float], seconds: float) -> None:
        """Writes the state after `step` steps and `seconds`, counted over all sessions. What lies in pieces on several
        processes is put together by all of them, for the one that writes."""
        if self.path is None and not any(map(is_sharded, self.parameters)):
            return
        tensors: dict[str, torch.Tensor] = {}
        for number, parameter in enumerate(self.parameters):
            for name, value in {"value": parameter.detach(), **self.optimizer.state[parameter]}.items():
                positions = full_tensor(value).cpu() if is_sharded(value) else value
                if self.path is not None:
                    tensors[f"{number}.{name}"] = positions
        if self.path is None:
            return
        facts: dict[str, Any] = {"step": step, "losses": losses, "seconds": seconds}
        if self.choice is not None:
            facts["seen"] = self.choice.history
            tensors |= {f"{number}.best": value for number, value in enumerate(self.choice.values)}
        write_snapshot(self.path, tensors, facts)

    def read(self) -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]] | None:
        """Facts, and for each parameter what is kept of it by name; None where nothing is kept."""
        pair = read_snapshot(self.path)
        if pair is None:
            return None
        own: list[dict[str, torch.Tensor]] = [{} for _ in self.parameters]
        for name, value in pair[1].items():
            number, _, field = name.partition(".")
            own[int(number)][field] = value
        return pair[0], own

    def restore(self) -> tuple[int, list[float], float]:
        """Steps done, their last losses and the seconds they took; (0, [], 0) where nothing is kept. Changes
        parameters, optimiser and choice."""
        pair = self.read()
        if pair is None:
            return 0, [], 0.0
        facts, own = pair
        with torch.no_grad():
            for parameter, entries in zip(self.parameters, own, strict=True):
                parameter.copy_(entries.pop("value"))
                best = entries.pop("best", None)
                self.optimizer.state[parameter] = {name: value.to(parameter.device) for name, value in entries.items()}
                if self.choice is not None and best is not None:
                    self.choice.values.append(best.to(parameter.device))
        if self.choice is not None:
            self.choice.history = [(int(step), float(value)) for step, value in facts["seen"]]
        return int(facts["step"]), list(facts["losses"]), float(facts["seconds"])

"""What a resumed training needs, after each epoch: weights, best ones, optimiser as safetensors, the rest as JSON.

An epoch's folder appears in one step, so that an interruption leaves the one before it. Runs in the worker's process.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def store(folder: Path, epoch: int, facts: dict[str, Any], tensors: dict[str, Tensors]) -> None:
    """Writes `epoch-N` under `folder` and takes away the epochs before it."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = folder / "unfinished"
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir()
    for name, group in tensors.items():
        save_file({key: value.detach().cpu().clone().contiguous() for key, value in group.items()},
                  begun / f"{name}.safetensors")  # fmt: skip
    (begun / "state.json").write_text(json.dumps(facts), encoding="utf-8")
    final = folder / f"epoch-{epoch:06d}"
    shutil.rmtree(final, ignore_errors=True)
    os.replace(begun, final)
    for other in folder.glob("epoch-*"):
        if other != final:
            shutil.rmtree(other, ignore_errors=True)


def latest(folder: Path, mark: str) -> tuple[dict[str, Any], dict[str, Tensors]] | None:
    """Facts and tensors of the last epoch that is whole, or None where there is none of a training with this `mark`."""
    for stored in sorted(folder.glob("epoch-*"), reverse=True):
        facts = json.loads((stored / "state.json").read_text(encoding="utf-8"))
        if facts["mark"] == mark:
            return facts, {path.stem: load_file(path) for path in stored.glob("*.safetensors")}
    return None


def flat_optimizer(optimizer: torch.optim.Optimizer) -> tuple[Tensors, list[Any]]:
    """The optimiser's state as named tensors (`parameter number.name`) and JSON-able parameter groups."""
    state = optimizer.state_dict()
    tensors = {f"{key}.{name}": value for key, entry in state["state"].items() for name, value in entry.items()}
    return tensors, state["param_groups"]


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, groups: list[Any]) -> None:
    """Takes `flat_optimizer`'s state back."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        key, _, field = name.partition(".")
        state.setdefault(int(key), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})

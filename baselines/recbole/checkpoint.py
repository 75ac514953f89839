"""Checkpoints of RecBole's training: weights, best weights, optimizer state and position.

The position can be between two batches of an epoch: `Batches` skips trained batches, and all random generators are
restored. Runs in the worker process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.generative.training.checkpoint import (
    Tensors,
    random_state,
    read_snapshot,
    set_random_state,
    write_snapshot,
)

FILE = "training.safetensors"


def store(folder: Path, facts: dict[str, Any], parts: dict[str, Tensors]) -> None:
    """Replaces the stored state."""
    tensors = {f"{part}/{name}": value for part, group in parts.items() for name, value in group.items()}
    write_snapshot(folder / FILE, tensors, facts)


def latest(folder: Path, mark: str) -> tuple[dict[str, Any], dict[str, Tensors]] | None:
    """Facts and tensors; None if there are none of a training with this `mark`."""
    pair = read_snapshot(folder / FILE)
    if pair is None or pair[0]["mark"] != mark:
        return None
    parts: dict[str, Tensors] = {}
    for name, value in pair[1].items():
        part, _, inner = name.partition("/")
        parts.setdefault(part, {})[inner] = value
    return pair[0], parts


def rng_state(device: str) -> tuple[dict[str, Any], Tensors]:
    """State of the random generators of Python, NumPy and torch, as facts and tensors."""
    old = np.random.get_state(legacy=False)
    numpy = {**old, "state": {**old["state"], "key": old["state"]["key"].tolist()}}
    return {"python": random.getstate(), "numpy": numpy}, random_state(device)


def set_draws(facts: dict[str, Any], tensors: Tensors, device: str) -> None:
    """Restores the state of `rng_state`."""
    version, numbers, gauss = facts["python"]
    random.setstate((version, tuple(numbers), gauss))
    numpy = facts["numpy"]
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": np.array(numpy["state"]["key"], np.uint32)}})
    set_random_state(tensors, device)


class Batches:
    """RecBole's loader for one epoch, from batch `begin` on. `between(number)` is called before each batch but the
    first, when all previous ones are trained; `ready()` after a resumed epoch has skipped its trained batches."""

    def __init__(self, loader: Any, begin: int, ready: Callable[[], None], between: Callable[[int], None]) -> None:
        self._loader, self._begin, self._ready, self._between = loader, begin, ready, between

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        for number in range(len(self._loader)):
            if self._begin and number == self._begin:
                self._ready()
            elif number > self._begin:
                self._between(number)
            batch = next(batches)
            if number >= self._begin:
                yield batch

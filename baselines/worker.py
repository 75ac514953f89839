"""The worker process of a library: `python -m baselines.worker LIBRARY FOLDER`, started by `library.Session`.

A loop executes the harness's commands on an engine, one model of a library with its data. Shared by the libraries: the
weights of an engine, the order of a training, and its checkpoints, from which a resumed training is bit-identical.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from baselines.library import Channel, RemoteError, read_arrays, receive, send, write_arrays
from harness.core.timer import CheckpointTimer
from harness.data.ragged import RaggedArray
from harness.generative.training.checkpoint import Checkpointer, Facts, Tensors, random_state, set_random_state

WATCH_SECONDS = 0.2
NOTE_SECONDS = 0.5  # between two progress messages
SEEDS = 2**32  # NumPy's old generator takes no larger seed
WEIGHTS = "model.safetensors"


def best(scores: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Items (int64) and scores (float32) of the `k` best of each row, shape (n, min(k, n_items)).

    Equals a stable sort of the row, which only rows with a tie at the end of their list need.
    """
    k = min(k, scores.shape[1])
    values, items = scores.topk(k, dim=1)
    values, items = values.numpy(), items.numpy()
    order = np.lexsort((items, -values), axis=1)
    items, values = np.take_along_axis(items, order, axis=1), np.take_along_axis(values, order, axis=1)
    for row in np.flatnonzero((scores.numpy() >= values[:, -1:]).sum(axis=1) > k):
        full = scores[row].numpy()
        items[row] = np.argsort(-full, kind="stable")[:k]
        values[row] = full[items[row]]
    return items, values


class LibraryEngine(ABC):
    """One model `name` of a library over `n_items` items: builds, scores, saves and loads it. Item and user ids of its
    interface are positions in the data set. The fields of the command `open` are its arguments."""

    library: ClassVar[str]  # the library's name in records and files
    version: ClassVar[str]  # of the library
    name: str
    n_items: int
    network: Any  # an nn.Module

    @abstractmethod
    def ranked(self, users: np.ndarray, histories: RaggedArray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Items (int64) and scores (float32) of the `k` best of each user, shape (n, min(k, n_items))."""

    def recommend(self, requests: str, k: int, lists: str) -> None:
        """Reads the file `requests`, writes the file `lists` with the arrays `items` and `scores`."""
        arrays = read_arrays(Path(requests))
        items, scores = self.ranked(arrays["users"], RaggedArray(arrays["values"], arrays["offsets"]), k)
        write_arrays(Path(lists), items=items, scores=scores)

    def size(self) -> dict[str, Any]:
        """Numbers of parameters, and the library's version."""
        count = [(parameter.numel(), parameter.requires_grad) for parameter in self.network.parameters()]
        return {
            "parameters": sum(number for number, _ in count),
            "trainable": sum(number for number, trained in count if trained),
            "version": self.version,
        }

    def state(self) -> Tensors:
        """A copy of the weights on the CPU."""
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.network.state_dict().items()}

    def save(self, folder: str) -> None:
        """Writes the weights as safetensors, and model name and number of items as JSON."""
        save_file(self.state(), Path(folder, WEIGHTS))
        facts = {"model": self.name, "n_items": self.n_items, self.library: self.version}
        Path(folder, f"{self.library}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    def load(self, folder: str) -> None:
        """Loads what `save` wrote. Raises `RemoteError` for another model or another number of items."""
        facts = json.loads(Path(folder, f"{self.library}.json").read_text(encoding="utf-8"))
        if (facts["model"], facts["n_items"]) != (self.name, self.n_items):
            message = f"holds {facts['model']} over {facts['n_items']} items"
            hint = f"give one of {self.name} over {self.n_items}"
            raise RemoteError(what=message, where=folder, hint=hint, code="incompatible")
        self.network.load_state_dict(load_file(Path(folder, WEIGHTS)))


@dataclass(frozen=True)
class Order:
    """One training requested by the harness. `validation` is a file of requests; `mark` identifies the training, so
    that the checkpoint of another one is not used. A checkpoint is written after each epoch, and within an epoch after
    `keep_seconds`. `epochs` and `patience` are None where the library's own settings have them. `stage` is `train` or
    `pretrain`."""

    seed: int
    mark: str
    max_samples: int | None
    depth: int
    validation: str | None
    checkpoint: str | None
    keep_seconds: float | None
    epochs: int | None = None
    patience: int | None = None
    stage: str = "train"

    def score(self, engine: LibraryEngine, link: Channel) -> float:
        """The validation score of the engine's lists, which the harness computes."""
        assert self.validation is not None
        lists = os.path.abspath("valid-lists.npz")
        engine.recommend(self.validation, self.depth, lists)
        return float(link.ask(lists=lists)["score"])


class TrainingCheckpoint:
    """The checkpoint of a training: weights, best weights, the optimizer's state and the position, which can be between
    two batches of an epoch; the states of all random generators are then part of it."""

    def __init__(self, order: Order, engine: LibraryEngine, optimizer: torch.optim.Optimizer, device: str) -> None:
        folder = None if order.checkpoint is None else Path(order.checkpoint)
        self._file = Checkpointer(folder, "training", order.mark)
        self._timer = CheckpointTimer(order.keep_seconds)
        self._engine, self._optimizer, self._device = engine, optimizer, device
        self._draws: tuple[Facts, Tensors] | None = None

    @property
    def due(self) -> bool:
        """Whether a checkpoint within an epoch is due."""
        return self._file.path is not None and self._timer.due

    def save(self, facts: Facts, best: Tensors, inside: tuple[int, float] | None = None) -> None:
        """Writes the checkpoint between two epochs, or `inside` one: batches done and the sum of their losses."""
        if self._file.path is None:
            return
        batch, summed = inside or (0, 0.0)
        draws, generators = _random_states(self._device) if inside else (None, {})
        optimizer = self._optimizer.state_dict()
        moments = {f"{key}.{name}": value for key, entry in optimizer["state"].items() for name, value in entry.items()}
        parts = {"model": self._engine.state(), "best": best, "optimizer": moments, "draws": generators}
        tensors = {f"{part}/{name}": value for part, group in parts.items() for name, value in group.items()}
        position = {"batch": batch, "summed": summed, "draws": draws, "groups": optimizer["param_groups"]}
        with self._timer.timed():
            self._file.save({**facts, **position}, tensors)

    def load(self) -> tuple[Facts, Tensors] | None:
        """Facts and best weights of an interrupted training, whose weights and optimizer state are set; else None."""
        if (snapshot := self._file.load()) is None:
            return None
        facts, tensors = snapshot
        self._engine.network.load_state_dict(_part(tensors, "model"))
        moments: dict[int, Tensors] = {}
        for name, value in _part(tensors, "optimizer").items():
            key, _, field = name.partition(".")
            moments.setdefault(int(key), {})[field] = value
        self._optimizer.load_state_dict({"state": moments, "param_groups": facts["groups"]})
        self._draws = facts["draws"] and (facts["draws"], _part(tensors, "draws"))
        return facts, _part(tensors, "best")

    def restore_random_states(self) -> None:
        """Sets the random generators to the states of a checkpoint within an epoch, once; else does nothing."""
        if self._draws is None:
            return
        (facts, tensors), self._draws = self._draws, None
        version, numbers, gauss = facts["python"]
        random.setstate((version, tuple(numbers), gauss))
        numpy = facts["numpy"]
        np.random.set_state({**numpy, "state": {**numpy["state"], "key": np.array(numpy["state"]["key"], np.uint32)}})
        set_random_state(tensors, self._device)


def _part(tensors: Tensors, part: str) -> Tensors:
    return {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}


def _random_states(device: str) -> tuple[Facts, Tensors]:
    """States of the random generators of Python, NumPy and torch, as facts and tensors."""
    old = np.random.get_state(legacy=False)
    numpy = {**old, "state": {**old["state"], "key": old["state"]["key"].tolist()}}
    return {"python": random.getstate(), "numpy": numpy}, random_state(device)


Train = Callable[[Any, Channel, Order], dict[str, Any]]
Library = tuple[Callable[..., LibraryEngine], Train]  # what makes an engine, and what trains it to an order


def load(library: str) -> Library:
    """Imports a library by its name in records; this takes seconds of CPU time. RecBole needs patches of the process
    before."""
    if library == "recbole":
        import_module("baselines.recbole").apply_patches()
    module = import_module(f"baselines.{library}.engine")
    return module.Engine, module.train


def run(prepare: Callable[[], Library], folder: Path) -> None:
    """Imports the library by `prepare` and answers commands until the harness closes the pipe."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the library prints goes to the log
    threading.Thread(target=_die_with, args=(os.getppid(), folder), daemon=True).start()
    commands = sys.stdin
    sys.argv = sys.argv[:1]  # libraries read settings from the command line
    os.chdir(folder)  # where libraries drop what they write unasked
    serve(commands, answers, prepare())
    shutil.rmtree(folder, ignore_errors=True)  # the pipe was closed: the harness was killed before it could


def serve(commands: IO[str], answers: IO[str], library: Library) -> None:
    """One `done` or `refused` for each command, of which `open` is the first."""
    build, train = library
    link = Channel(commands, answers)
    engine: Any = None
    while (message := receive(commands)) is not None:
        command, answer = message.pop("kind"), {}
        try:
            if command == "open":
                engine = build(**message)
                answer = engine.size()
            elif command == "fit":
                answer = train(engine, link, Order(**message["order"]))
            else:
                getattr(engine, command)(**message)  # recommend, save or load
        except RemoteError as refusal:
            send(answers, {"kind": "refused", **refusal.fields})
        else:
            send(answers, {"kind": "done", **answer})


def _die_with(parent: int, folder: Path) -> None:
    """Ends this process when the harness was killed, which had no time to; nobody else would remove the folder."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    name = sys.argv[1]
    run(lambda: load(name), Path(sys.argv[2]))
